// What stands around the normalizer (QK-norm, a cap on the scores, gates for each feature and on
// the values), in every path that attention takes, against the definitions written down head by
// head in float64: values, and the gradients of every parameter.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "attention/attention.h"
#include "attention/blocked.h"
#include "config/yaml.h"
#include "tests/support/golden.h"

namespace quench {
namespace {

constexpr int64_t kHeads = 3, kHead = 4, kWidth = kHeads * kHead;
using Named = std::map<std::string, at::Tensor>;

at::Tensor normalised(const at::Tensor& x, const Named& p, const std::string& name) {
  if (!p.contains(name + ".weight")) return x;
  const at::Tensor gain = p.at(name + ".weight");
  if (!p.contains(name + ".bias")) return gain * x / (x.square().mean(-1, true) + 1e-6).sqrt();
  const at::Tensor centred = x - x.mean(-1, true);
  return gain * centred / (centred.square().mean(-1, true) + 1e-6).sqrt() + p.at(name + ".bias");
}

at::Tensor definition(const at::Tensor& x, const AttentionConfig& config, const Named& p) {
  const auto linear = [&](const std::string& name) {
    return at::matmul(x, p.at(name + ".weight").t()) + p.at(name + ".bias");
  };
  const at::Tensor q = linear("q"), k = linear("k"), v = linear("v");
  const at::Tensor future = at::ones({x.size(1), x.size(1)}, at::kBool).triu(1);
  std::vector<at::Tensor> heads;
  for (int64_t h = 0; h < kHeads; ++h) {
    const auto of_head = [&](const at::Tensor& y) { return y.narrow(-1, h * kHead, kHead); };
    const at::Tensor query = normalised(of_head(q), p, "self.query_norm"),
                     key = normalised(of_head(k), p, "self.key_norm");
    at::Tensor value = of_head(v);
    at::Tensor scores = at::matmul(query, key.transpose(1, 2)) / std::sqrt(double{kHead});
    if (config.scores_cap) scores = *config.scores_cap * at::tanh(scores / *config.scores_cap);
    scores = scores.masked_fill(future, -std::numeric_limits<double>::infinity());
    const bool biased = p.contains("self.key_bias");
    if (biased)  // one more key, and its value
      scores = at::cat(
          {at::matmul(query, p.at("self.key_bias")[h]).unsqueeze(-1) / std::sqrt(double{kHead}),
           scores},
          -1);
    const at::Tensor weights = at::softmax(scores, -1);
    if (biased) {
      const at::Tensor own = p.contains("self.value_bias") ? p.at("self.value_bias")[h]
                                                           : at::zeros({kHead}, at::kDouble);
      value = at::cat({own.expand({x.size(0), 1, kHead}), value}, 1);
    }
    at::Tensor gate;
    if (config.gate->type() == "value")
      gate = at::sigmoid(at::matmul(v, p.at("self.alpha.value.weight").t())).narrow(-1, h, 1);
    if (config.gate->type() == "elementwise")
      gate = of_head(at::sigmoid(at::matmul(x, p.at("self.alpha.weight").t())));
    if (config.gate->on_values()) value = value * gate;
    at::Tensor context = at::matmul(weights, value);
    if (gate.defined() && !config.gate->on_values()) context = context * gate;
    heads.push_back(context);
  }
  return at::matmul(at::cat(heads, -1), p.at("o.weight").t()) + p.at("o.bias");
}

class Listener : public TapListener {
 public:
  explicit Listener(std::string tap) : tap_(std::move(tap)) {}
  bool wants(const std::string& tap) const override { return tap.ends_with(tap_); }
  at::Tensor activation(const std::string&, const at::Tensor& x) override { return x; }
  bool replaces_weights() const override { return false; }

 private:
  std::string tap_;
};

class Around : public ::testing::TestWithParam<const char*> {};

// `long` enough for blocks; `heard`: the tap that somebody listens to, none: "".
void expect_definition(const char* section, int64_t length, const std::string& heard) {
  AttentionConfig config;
  config::read(config::parse(section, {"test", 1}), config);
  Parameters parameters;
  const Init init = Init::normal(0.5);
  const Attention attention(parameters, config, {kWidth, kHeads, length, 0},
                            {"q", "k", "v", "o", "self", init, init, init, init},
                            "layers.0.attention.");
  parameters.initialize(1);
  parameters.to(at::kCPU, at::kDouble);
  Named named;
  for (const auto& [name, value] : parameters.named_values()) {
    named[name] = value.detach().clone();
    // Gains and biases that are not what they begin as.
    if (name.find("_norm") != name.npos)
      value.detach().add_(at::cos(at::arange(value.numel(), at::kDouble)));
    named[name] = value.detach().clone().requires_grad_();
  }
  const auto generator = at::detail::createCPUGenerator(4);
  const at::Tensor x = at::randn({2, length, kWidth}, generator, at::dtype(at::kDouble)),
                   weight = at::cos(at::arange(x.numel(), at::kDouble)).view(x.sizes());
  Listener listener(heard);
  const Taps taps(heard.empty() ? std::vector<TapListener*>{}
                                : std::vector<TapListener*>{&listener});
  DropoutStream stream;
  const at::Tensor y = attention(x, {at::Tensor(), /*causal=*/true}, taps, stream),
                   expected = definition(x, config, named);
  EXPECT_LT(testing::max_difference(y.detach(), expected.detach()), 1e-11);
  (y * weight).sum().backward();
  (expected * weight).sum().backward();
  for (const auto& [name, gradient] : parameters.named_gradients()) {
    const at::Tensor reference = named.at(name).grad();
    EXPECT_LT(testing::max_difference(gradient, reference),
              1e-10 * (1 + reference.abs().max().item<double>()))
        << name;
  }
}

TEST_P(Around, IsItsDefinition) {
  expect_definition(GetParam(), 7, "");
  expect_definition(GetParam(), 7, "scores");
  expect_definition(GetParam(), 7, "query");
}

INSTANTIATE_TEST_SUITE_P(Attention, Around,
                         ::testing::Values("{}", "{query_key_norm: rms}", "{query_key_norm: layer}",
                                           "{scores_cap: 0.7}", "{softmax: {type: key_bias}}",
                                           "{softmax: {type: key_bias, value: true}}",
                                           "{gate: {type: elementwise}}", "{gate: {type: value}}",
                                           "{gate: {type: value, side: query}}",
                                           "{query_key_norm: layer, scores_cap: 2, gate: {type: "
                                           "value}}"));

// The scores of 900 tokens are too many to be kept at once.
TEST(AroundInBlocks, IsItsDefinition) {
  ASSERT_TRUE(attention_block_rows(at::empty({2, 900, 3 * kWidth}), kHeads));
  expect_definition("{query_key_norm: rms, scores_cap: 2, gate: {type: elementwise}}", 900, "");
  expect_definition("{softmax: {type: key_bias, value: true, init_std: 1}}", 900, "");
}

}  // namespace
}  // namespace quench
