// The fused kernels of the device against the composite path, which defines it: values and
// gradients, every mask, with dropout.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <set>

#include "attention/attention.h"
#include "base/error.h"
#include "tests/support/golden.h"

namespace quench {
namespace {

// Listens to the scores, which makes attention take the composite path.
class ScoresListener : public TapListener {
 public:
  bool wants(const std::string& tap) const override { return tap.ends_with("scores"); }
  at::Tensor activation(const std::string&, const at::Tensor& x) override { return x; }
};

struct Problem {
  int64_t length;
  bool causal, padded;
  double gamma, zeta, dropout;
};

class FusedMasks : public ::testing::TestWithParam<Problem> {};

AttentionConfig config_of(const Problem& s) {
  AttentionConfig config;
  const auto clipped = std::make_shared<ClippedSoftmax>();
  clipped->gamma = s.gamma;
  clipped->zeta = s.zeta;
  config.softmax = clipped;
  return config;
}

void expect_the_composite_path(const AttentionConfig& config, const Problem& s) {
  const int64_t batch = 2, width = 24, heads = 3;
  Parameters parameters;
  const Init init = Init::normal(0.4);
  const Attention attention(parameters, config, {width, heads, s.length, s.dropout},
                            {"q", "k", "v", "o", "self", init, init, init, init},
                            "layers.0.attention.");
  parameters.initialize(1);
  parameters.to(testing::device(), at::kFloat);
  AttentionMask mask{at::Tensor(), s.causal};
  if (s.padded) {
    mask.keys = at::ones({batch, s.length}, at::kBool);
    mask.keys[0].slice(0, s.length / 2).fill_(false);  // right padding
    mask.keys[1]
        .slice(0, 0, s.length / 3)
        .fill_(false);  // left padding: queries without any visible key
  }
  const auto random = [&](uint64_t seed) {
    const auto generator = at::detail::createCPUGenerator(seed);
    return at::randn({batch, s.length, width}, generator).to(testing::device());
  };
  const at::Tensor x = random(2), weight = random(3);
  if (s.padded) mask.keys = mask.keys.to(testing::device());

  const auto run = [&](bool composite, std::vector<at::Tensor>& gradients) {
    ScoresListener listener;
    const Taps taps(composite ? std::vector<TapListener*>{&listener} : std::vector<TapListener*>{});
    // Of 70 tokens and 3 heads, element 2^32 of the step lies within a row of the first sample.
    DropoutStream stream(7, 3, /*first_sample=*/292174);
    const at::Tensor input = x.clone().requires_grad_();
    const at::Tensor y = attention(input, mask, taps, stream);
    (y * weight).sum().backward();
    gradients.push_back(input.grad());
    for (Parameter& parameter : parameters.all()) {
      gradients.push_back(parameter.value.grad().clone());
      parameter.value.mutable_grad() = at::Tensor();
    }
    return y.detach();
  };
  std::vector<at::Tensor> fused_gradients, composite_gradients;
  const at::Tensor fused = run(false, fused_gradients), composite = run(true, composite_gradients);
  // Sums of up to 300 float32 products in another order, through a softmax.
  EXPECT_LT(testing::max_difference(fused, composite),
            3e-6 * (1 + composite.abs().max().item<double>()));
  for (size_t i = 0; i < fused_gradients.size(); ++i)
    EXPECT_LT(testing::max_difference(fused_gradients[i], composite_gradients[i]),
              1e-5 * (1 + composite_gradients[i].abs().max().item<double>()))
        << i;
}

TEST_P(FusedMasks, EqualsTheCompositePath) {
  expect_the_composite_path(config_of(GetParam()), GetParam());
}

// Those with a row function, whatever the path that is taken then.
TEST(Fused, EqualsTheCompositePathForEveryNormalizer) {
  for (const auto& entry : normalizers().entries) {
    AttentionConfig config;
    config.softmax = entry.make();
    for (const bool causal : {false, true})
      for (const bool padded : {false, true})
        for (const double dropout : {0.0, 0.3}) {
          SCOPED_TRACE(concat(entry.type, causal, padded, dropout));
          expect_the_composite_path(config, {70, causal, padded, 0, 1, dropout});
        }
  }
}

// Those that say a row function are computed by it: nothing forms their T x T matrix.
TEST(Fused, KnowsTheClosedForms) {
  std::set<std::string> closed;
  for (const auto& entry : normalizers().entries) {
    Parameters parameters;
    if (entry.make()->add(parameters, {"self", 2, 4, 8}).row) closed.insert(entry.type);
  }
  EXPECT_EQ(closed, (std::set<std::string>{"softmax", "clipped", "normalized_clipped", "softmax1",
                                           "sink", "softpick", "sigmoid", "relu"}));
}

INSTANTIATE_TEST_SUITE_P(
    All, FusedMasks,
    ::testing::Values(Problem{17, false, false, 0, 1, 0}, Problem{17, false, true, 0, 1, 0},
                      Problem{17, true, false, 0, 1, 0}, Problem{17, true, true, 0, 1, 0},
                      Problem{300, true, true, 0, 1, 0.1},
                      Problem{300, true, false, -0.03, 1.03, 0.1},
                      Problem{300, false, true, -0.03, 1, 0.2},
                      Problem{129, false, false, 0, 1.1, 0},
                      Problem{128, true, false, -0.1, 1.1, 0.5}, Problem{1, true, false, 0, 1, 0}));

TEST(ClippedSoftmax, ReachesExactZeroAndOne) {
  ClippedSoftmax softmax;
  softmax.gamma = -0.1;
  softmax.zeta = 1.1;
  Parameters none;
  const MaskedScores scores{at::tensor({8.f, 0.f, 0.f, -3.f}).view({1, 1, 1, 4})};
  const at::Tensor p = softmax.add(none, {})(scores, Taps()).flatten();
  EXPECT_EQ(p[0].item<float>(), 1.f);
  EXPECT_EQ(p[3].item<float>(), 0.f);
}

TEST(ClippedSoftmax, AlphaSetsGammaFromTheConfiguredLength) {
  ClippedSoftmax softmax;
  softmax.alpha = 12;
  EXPECT_DOUBLE_EQ(softmax.stretch(512).gamma, -12.0 / 512);
  EXPECT_DOUBLE_EQ(softmax.stretch(512).zeta, 1);
}

}  // namespace
}  // namespace quench
