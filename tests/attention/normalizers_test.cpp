// Every normalizer against its definition: worked examples, masks, gradients by differences, half
// precision. What holds for all is asked of every entry of the registry.
#include "attention/normalizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "attention/attention.h"
#include "config/yaml.h"
#include "tests/support/golden.h"

namespace quench {
namespace {

at::Tensor row(const std::vector<double>& values) {
  return at::tensor(values, at::kDouble).view({1, 1, 1, -1});
}

std::shared_ptr<Normalizer> make(const std::string& type, const Json& options = Json::object()) {
  Json section = {{"softmax", {{"type", type}}}};
  if (options.is_object()) section["softmax"].update(options);
  AttentionConfig config;
  config::read(config::parse(dump(section), {"test", 1}), config);
  return config.softmax;
}

struct Example {
  std::string type;
  Json options;
  std::vector<double> x, y, gradient;  // of sum_j j y_j; empty: of a kink
};

// CURES.md of the field, computed in float64 from the definitions and printed to six digits.
class WorkedExample : public ::testing::TestWithParam<Example> {};

TEST_P(WorkedExample, HasTheseValuesAndGradients) {
  const Example& e = GetParam();
  Parameters parameters;
  const NormalizerLayer layer = make(e.type, e.options)->add(parameters, {"a", 1, 2, 4});
  parameters.to(at::kCPU, at::kDouble);
  for (Parameter& parameter : parameters.all()) parameter.value.detach().fill_(0.5);
  const at::Tensor x = row(e.x).requires_grad_();
  // Of key_bias: a key of halves and a query that makes its score 0.3.
  const MaskedScores scores{x, {}, 0, at::full({1, 1, 1, 2}, 0.3, at::kDouble)};
  const at::Tensor y = layer(scores, Taps());
  EXPECT_LT(testing::max_difference(y.detach(), row(e.y)), 6e-7) << y;
  if (e.gradient.empty()) return;
  y.backward(row({1, 2, 3, 4}));
  EXPECT_LT(testing::max_difference(x.grad(), row(e.gradient)), 6e-7) << x.grad();
  if (e.type != "sink") return;
  EXPECT_NEAR(parameters.all()[0].value.grad().item<double>(), -0.165574, 6e-7);
}

const std::vector<double> kX = {2, 1, 0, -1};

INSTANTIATE_TEST_SUITE_P(
    Normalizers, WorkedExample,
    ::testing::Values(
        Example{"softmax", {}, kX, {0.643914, 0.236883, 0.087144, 0.032059}, {}},
        Example{"clipped",
                {{"alpha", 0.4}},
                kX,
                {0.608306, 0.160571, 0, 0},
                {-0.083353, 0.229907, -0.107139, -0.039414}},
        Example{"normalized_clipped",
                {{"alpha", 0.4}},
                kX,
                {0.608306, 0.160571, 0, 0},
                {-0.083353, 0.229907, -0.107139, -0.039414}},
        Example{"softmax1",
                {},
                kX,
                {0.592299, 0.217895, 0.080159, 0.029489},
                {-0.228935, 0.133674, 0.129335, 0.077068}},
        Example{"softmax1", {}, {100, 100, 100, 100}, {0.25, 0.25, 0.25, 0.25}, {}},
        Example{"softmax1", {}, {-100, -100, -100, -100}, {0, 0, 0, 0}, {0, 0, 0, 0}},
        Example{"sink",
                {},
                kX,
                {0.563021, 0.207124, 0.076197, 0.028031},
                {-0.179032, 0.141262, 0.128164, 0.07518}},
        Example{"key_bias", {}, kX, {0.576141, 0.211951, 0.077972, 0.028684}, {}},
        Example{"softpick", {}, kX, {0.731059, 0.196612, 0, 0}, {}},
        Example{"softpick",
                {},
                {2, 1, -0.5, -1},
                {0.699563, 0.188141, 0, 0},
                {-0.061363, 0.275061, 0.071448, 0.043336}},
        Example{"softpick", {}, {-300, -400, -300, -300}, {0, 0, 0, 0}, {0, 0, 0, 0}},
        Example{"sigmoid",
                {},
                kX,
                {0.648786, 0.40461, 0.2, 0.084224},
                {0.227863, 0.481801, 0.48, 0.308521}},
        Example{"relu", {}, kX, {0.5, 0.25, 0, 0}, {0.25, 0.5, 0, 0}},
        Example{"top_k", {{"k", 2}}, kX, {0.731059, 0.268941, 0, 0}, {-0.196612, 0.196612, 0, 0}},
        Example{"top_k", {{"k", 2}}, {1, 1, 1, 0}, {0.5, 0.5, 0, 0}, {}},
        Example{"top_k", {{"k", 9}}, kX, {0.643914, 0.236883, 0.087144, 0.032059}, {}},
        Example{"sparsemax", {}, kX, {1, 0, 0, 0}, {}},
        Example{"sparsemax", {}, {1, 0.5, 0.2, -1}, {0.75, 0.25, 0, 0}, {-0.5, 0.5, 0, 0}},
        Example{"entmax15", {}, kX, {0.830719, 0.169281, 0, 0}, {-0.283473, 0.283473, 0, 0}},
        Example{"entmax15", {}, {1, 0.5, 0.2, -1}, {0.592807, 0.270337, 0.136855, 0}, {}}),
    [](const auto& info) { return info.param.type + std::to_string(info.index); });

// theta = softplus(r) = -ln g.
struct ThresholdCase {
  Parameters parameters;
  NormalizerLayer layer;

  explicit ThresholdCase(double g, const Json& options = Json::object())
      : layer(make("threshold", options)->add(parameters, {"a", 1, 4, 4})) {
    parameters.to(at::kCPU, at::kDouble);
    r().detach().fill_(std::log(std::expm1(-std::log(g))));
  }
  at::Tensor& r() { return parameters.all()[0].value; }
};

TEST(Threshold, KeepsTheKeysNearTheLargest) {
  ThresholdCase latte(0.1);
  const at::Tensor y = latte.layer({row(kX)}, Taps());
  EXPECT_LT(testing::max_difference(y.detach(), row({0.665241, 0.244728, 0.090031, 0})), 6e-7);
}

// In training the edge is soft, so that theta learns: values and gradients by differences.
TEST(Threshold, LearnsThroughASoftEdge) {
  ThresholdCase latte(0.1, {{"temperature", 0.5}});
  const at::Tensor g = row({1, 2, 3, 4});
  const auto loss = [&](const at::Tensor& x) {
    MaskedScores scores{x};
    scores.training = true;
    return (latte.layer(scores, Taps()) * g).sum();
  };
  const at::Tensor x = row(kX).requires_grad_();
  const at::Tensor w = at::sigmoid((row(kX) - 2 + std::log(10.0)) / 0.5),
                   p = at::softmax(row(kX), -1) * w;
  EXPECT_NEAR(loss(x).item<double>(), (p / p.sum() * g).sum().item<double>(), 1e-12);
  loss(x).backward();
  const double step = 1e-6, r = latte.r().item<double>();
  latte.r().detach().fill_(r + step);
  const double above = loss(x).item<double>();
  latte.r().detach().fill_(r - step);
  EXPECT_NEAR(latte.r().grad().item<double>(), (above - loss(x).item<double>()) / (2 * step), 1e-8);
  EXPECT_GT(std::abs(latte.r().grad().item<double>()), 1e-3);
}

// The product of the four highest of eight bits says which keys are kept, not what they get.
TEST(Threshold, FindsItsEdgeFromFewBits) {
  ThresholdCase latte(0.9, {{"low_precision", true}});  // theta = 0.105
  MaskedScores scores{row({1, 0.95, 0.88, 0.87})};
  scores.query = at::tensor({1.0, 0.0}, at::kDouble).view({1, 1, 1, 2});
  // In 127ths 127, 121, 112 and 110, of which remain 112, 112, 112 and 96, times the query's 112:
  // 0.778 thrice and 0.667. Exact scores would keep two.
  scores.key =
      at::tensor({1.0, 1.0, 0.95, 1.0, 0.88, 1.0, 0.87, 1.0}, at::kDouble).view({1, 1, 4, 2});
  const at::Tensor y = latte.layer(scores, Taps()).detach();
  EXPECT_LT(testing::max_difference(y.narrow(-1, 0, 3), at::softmax(row({1, 0.95, 0.88}), -1)),
            1e-12)
      << y;
  EXPECT_EQ(y.select(-1, 3).item<double>(), 0);
  scores.cap = 0.01;  // all estimates become nearly the cap
  EXPECT_GT(latte.layer(scores, Taps()).select(-1, 3).item<double>(), 0);
}

// Left, right and no padding; 5 keys, of which the third sample sees none.
constexpr int64_t kBatch = 3, kHeads = 2, kKeys = 5;

AttentionMask mask_of(bool causal, bool padded) {
  AttentionMask mask{at::Tensor(), causal};
  if (!padded) return mask;
  mask.keys = at::ones({kBatch, kKeys}, at::kBool);
  mask.keys[0].slice(0, 3).fill_(false);
  mask.keys[1].slice(0, 0, 2).fill_(false);
  mask.keys[2].fill_(false);
  return mask;
}

class EveryNormalizer : public ::testing::TestWithParam<std::string> {
 protected:
  EveryNormalizer() : layer_(make(GetParam(), options())->add(parameters_, {"a", kHeads, 3, 7})) {
    parameters_.initialize(3);
    parameters_.to(at::kCPU, at::kDouble);
  }
  static Json options() { return GetParam() == "top_k" ? Json{{"k", 2}} : Json::object(); }
  at::Tensor operator()(const at::Tensor& scores, const AttentionMask& mask) const {
    MaskedScores masked = mask_scores(scores, mask, 0, queries());
    masked.training = training_;
    return layer_(masked, Taps());
  }
  static at::Tensor queries() {
    return at::sin(at::arange(kBatch * kHeads * kKeys * 3, at::kDouble))
        .view({kBatch, kHeads, kKeys, 3});
  }
  static at::Tensor scores(at::ScalarType dtype = at::kDouble) {
    const auto generator = at::detail::createCPUGenerator(5);
    return at::randn({kBatch, kHeads, kKeys, kKeys}, generator, at::dtype(at::kDouble)).to(dtype);
  }
  bool is_reference() const { return GetParam() == "softmax" || GetParam() == "clipped"; }

  Parameters parameters_;
  bool training_ = false;
  NormalizerLayer layer_;
};

// A row is what it would be without the keys that it does not see: these are not there at all.
TEST_P(EveryNormalizer, HiddenKeysAreAsIfTheyWereNotThere) {
  const at::Tensor x = scores();
  for (const bool causal : {false, true})
    for (const bool padded : {false, true}) {
      const AttentionMask mask = mask_of(causal, padded);
      const at::Tensor y = (*this)(x, mask), seen = MaskedScores{x, mask, 0}.seen();
      for (int64_t b = 0; b < kBatch; ++b)
        for (int64_t h = 0; h < kHeads; ++h)
          for (int64_t i = 0; i < kKeys; ++i) {
            std::vector<int64_t> keys;
            for (int64_t j = 0; j < kKeys; ++j)
              if ((!causal || j <= i) && (!padded || mask.keys[b][j].item<bool>()))
                keys.push_back(j);
            if (keys.empty()) {
              const double most = y[b][h][i].abs().max().item<double>();
              EXPECT_TRUE(most == 0 || is_reference()) << most;
              continue;
            }
            const at::Tensor index = at::tensor(keys);
            at::Tensor alone = x[b].narrow(1, i, 1).index_select(2, index).unsqueeze(0);
            const at::Tensor query = queries()[b].narrow(1, i, 1).unsqueeze(0);
            at::Tensor expected = at::zeros({kKeys}, at::kDouble);
            expected.index_put_({index}, layer_({alone, {}, 0, query}, Taps())[0][h][0].detach());
            EXPECT_LT(testing::max_difference(y[b][h][i].detach(), expected), 1e-14)
                << causal << padded << b << h << i;
          }
    }
}

// Central differences of float64 are good to 1e-9; kinks are as far away as the draw puts them.
TEST_P(EveryNormalizer, HasTheGradientOfItsValues) {
  training_ = true;  // where every parameter has a gradient
  const at::Tensor x = scores(),
                   weight = at::cos(at::arange(x.numel(), at::kDouble)).view(x.sizes());
  const AttentionMask mask = mask_of(true, true);
  const auto objective = [&](const at::Tensor& at) { return ((*this)(at, mask) * weight).sum(); };
  const at::Tensor leaf = x.clone().requires_grad_();
  objective(leaf).backward();
  constexpr double kStep = 1e-6;
  const at::Tensor seen = MaskedScores{x, mask, 0}.seen().expand(x.sizes()),
                   any = seen.any(-1, /*keepdim=*/true).expand(x.sizes());
  for (int64_t i = 0; i < x.numel(); ++i) {
    // What reaches the scores of a row without any key is the reference's (mask_scores()).
    if (!any.reshape({-1})[i].item<bool>()) continue;
    const auto moved = [&](double by) {
      at::Tensor copy = x.clone();
      copy.view({-1})[i] += by;
      return objective(copy).item<double>();
    };
    EXPECT_NEAR(leaf.grad().view({-1})[i].item<double>(),
                (moved(kStep) - moved(-kStep)) / (2 * kStep), 1e-8)
        << i;
  }
  for (Parameter& parameter : parameters_.all()) {
    const at::Tensor gradient = parameter.value.grad().clone(), value = parameter.value.detach();
    for (int64_t i = 0; i < value.numel(); ++i) {
      const auto moved = [&](double by) {
        value.view({-1})[i] += by;
        const double result = objective(x).item<double>();
        value.view({-1})[i] -= by;
        return result;
      };
      EXPECT_NEAR(gradient.view({-1})[i].item<double>(),
                  (moved(kStep) - moved(-kStep)) / (2 * kStep), 1e-8);
    }
  }
}

TEST_P(EveryNormalizer, GivesEmptyRowsNoGradient) {
  if (is_reference()) GTEST_SKIP() << "as the paper's code";
  const at::Tensor x = scores().requires_grad_();
  (*this)(x, mask_of(false, true)).sum().backward();
  EXPECT_EQ(x.grad()[2].abs().max().item<double>(), 0);
}

// Half precision is normalised in float32 and rounded once: within half a unit of the last place.
TEST_P(EveryNormalizer, RoundsHalfPrecisionOnce) {
  const at::Tensor x = scores(at::kBFloat16);
  for (const bool padded : {false, true}) {
    const at::Tensor exact = (*this)(x.to(at::kDouble), mask_of(true, padded)).detach();
    const at::Tensor rounded = (*this)(x, mask_of(true, padded)).detach();
    EXPECT_EQ(rounded.scalar_type(), at::kBFloat16);
    const at::Tensor sound = padded && is_reference() ? exact.narrow(0, 1, 1) : exact,
                     own = padded && is_reference() ? rounded.narrow(0, 1, 1) : rounded;
    EXPECT_LT(
        ((own.to(at::kDouble) - sound).abs() - sound.abs() * std::exp2(-7.99)).max().item<double>(),
        1e-7);
  }
}

std::vector<std::string> types() {
  std::vector<std::string> names;
  for (const auto& entry : normalizers().entries) names.push_back(entry.type);
  return names;
}

INSTANTIATE_TEST_SUITE_P(All, EveryNormalizer, ::testing::ValuesIn(types()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace quench
