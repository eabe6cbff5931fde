// Attention a block of queries at a time against the same formulas all at once: values and
// gradients, every mask, with dropout, for normalizers with and without a fused kernel.
#include "attention/blocked.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "attention/attention.h"
#include "base/error.h"
#include "nn/dropout.h"
#include "tests/support/golden.h"

namespace quench {
namespace {

// exp(x) / (1 + sum exp(x)): no stretch of a softmax, so no fused kernel knows it.
class WithOneMore : public Normalizer {
 public:
  std::string type() const override { return "with_one_more"; }
  void describe(config::Fields&) override {}
  NormalizerLayer add(Parameters&, const NormalizerShape&) const override {
    return {[](const MaskedScores& scores, const Taps&) {
      const at::Tensor e = scores.values.exp();
      return e / (1 + e.sum(-1, true));
    }};
  }
};

std::shared_ptr<Normalizer> clipped(double gamma, double zeta) {
  const auto softmax = std::make_shared<ClippedSoftmax>();
  softmax->gamma = gamma;
  softmax->zeta = zeta;
  return softmax;
}

NormalizerLayer layer_of(const Normalizer& normalizer) {
  Parameters none;
  return normalizer.add(none, {"a", 3, 8, 37});
}

constexpr int64_t kBatch = 2, kLength = 37, kHeads = 3, kWidth = 24;

AttentionMask mask_of(bool causal, bool padded) {
  AttentionMask mask{at::Tensor(), causal};
  if (!padded) return mask;
  mask.keys = at::ones({kBatch, kLength}, at::kBool);
  mask.keys[0].slice(0, kLength / 2).fill_(false);
  mask.keys[1].slice(0, 0, kLength / 3).fill_(false);  // left: queries without any visible key
  mask.keys = mask.keys.to(testing::device());
  return mask;
}

at::Tensor at_once(const at::Tensor& qkv, const AttentionMask& mask, const AttentionOptions& o) {
  const at::Tensor heads = qkv.unflatten(-1, {3, o.heads, -1}).permute({2, 0, 3, 1, 4});
  const double scale = 1 / std::sqrt(static_cast<double>(heads.size(-1)));
  const at::Tensor scores = at::matmul(heads[0] * scale, heads[1].transpose(-1, -2));
  at::Tensor probs = o.normalizer(mask_scores(scores, mask), Taps());
  if (o.dropout > 0) probs = dropout_rows(probs, o.dropout, o.site, {0, qkv.size(1), qkv.size(1)});
  return at::matmul(probs, heads[2]).transpose(1, 2).flatten(-2);
}

TEST(BlockedAttention, EqualsTheFormulaAtOnceInFloat64) {
  const at::Tensor x = at::randn({kBatch, kLength, 3 * kWidth}, at::kDouble).to(testing::device());
  const at::Tensor upstream = at::randn({kBatch, kLength, kWidth}, at::kDouble).to(x.device());
  for (const std::shared_ptr<Normalizer>& normalizer :
       {std::shared_ptr<Normalizer>(std::make_shared<Softmax>()), clipped(-0.03, 1.03),
        std::shared_ptr<Normalizer>(std::make_shared<WithOneMore>())})
    for (const bool causal : {false, true})
      for (const bool padded : {false, true})
        for (const double dropout : {0.0, 0.2})
          for (const int64_t rows : {1, 8, 37}) {
            const AttentionMask mask = mask_of(causal, padded);
            const AttentionOptions options{layer_of(*normalizer), {}, kHeads, dropout, {99, 2}};
            const at::Tensor a = x.clone().requires_grad_(), b = x.clone().requires_grad_();
            const at::Tensor whole = at_once(a, mask, options);
            const at::Tensor blocked = blocked_attention(b, mask, options, rows);
            whole.backward(upstream);
            blocked.backward(upstream);
            SCOPED_TRACE(concat(normalizer->type(), causal, padded, dropout, rows));
            // The same sums in another order.
            EXPECT_LT(testing::max_difference(whole.detach(), blocked.detach()), 1e-13);
            EXPECT_LT(testing::max_difference(a.grad(), b.grad()), 1e-12);
          }
}

// Half-precision terms of keys and values are summed in float32, block by block: a row at a time is
// as close to float64 as all rows at once, within what one more rounding can do.
TEST(BlockedAttention, LosesNothingToItsBlocksInBFloat16) {
  const at::Tensor x =
      at::randn({kBatch, kLength, 3 * kWidth}).to(testing::device(), at::kBFloat16);
  const at::Tensor upstream = at::randn({kBatch, kLength, kWidth}).to(x.device(), at::kBFloat16);
  const AttentionOptions options{layer_of(*clipped(-0.03, 1)), {}, kHeads, 0.1, 5};
  const AttentionMask mask = mask_of(true, false);
  const auto gradient = [&](at::ScalarType dtype, int64_t rows) {
    const at::Tensor input = x.to(dtype).detach().requires_grad_();
    blocked_attention(input, mask, options, rows).backward(upstream.to(dtype));
    return input.grad().to(at::kDouble);
  };
  const at::Tensor exact = gradient(at::kDouble, kLength);
  const auto error = [&](int64_t rows) {
    return (gradient(at::kBFloat16, rows) - exact).norm().item<double>();
  };
  EXPECT_LT(error(1), 1.2 * error(kLength));
}

class ScoresListener : public TapListener {
 public:
  bool wants(const std::string& tap) const override { return tap.ends_with("scores"); }
  at::Tensor activation(const std::string&, const at::Tensor& x) override { return x; }
};

TEST(BlockedAttention, IsTakenWhereScoresAreMany) {
  const int64_t length = 1100, width = 32, heads = 4;
  AttentionConfig config;
  config.softmax = std::make_shared<WithOneMore>();
  Parameters parameters;
  const Init init = Init::normal(0.2);
  const Attention attention(parameters, config, {width, heads, length, 0.1},
                            {"q", "k", "v", "o", "self", init, init, init, init},
                            "layers.0.attention.");
  parameters.initialize(1);
  parameters.to(testing::device(), at::kFloat);
  const at::Tensor x = at::randn({1, length, width}).to(testing::device());
  ASSERT_TRUE(attention_block_rows(at::empty({1, length, 3 * width}), heads).has_value());
  const auto run = [&](const Taps& taps) {
    DropoutStream stream(3, 4);
    return attention(x, {at::Tensor(), true}, taps, stream).detach();
  };
  ScoresListener listener;
  EXPECT_LT(testing::max_difference(run(Taps()), run(Taps({&listener}))), 1e-5);
}

TEST(AttentionMask, IsFormedOnceForAllLayers) {
  const AttentionMask mask = mask_of(true, true), copy = mask;
  const at::Tensor scores = at::zeros({kBatch, kHeads, kLength, kLength}).to(testing::device());
  mask_scores(scores, mask);
  const void *future = mask.formed->future.const_data_ptr(),
             *padding = mask.formed->padding.const_data_ptr();
  mask_scores(scores, copy);
  EXPECT_EQ(copy.formed->future.const_data_ptr(), future);
  EXPECT_EQ(copy.formed->padding.const_data_ptr(), padding);
}

}  // namespace
}  // namespace quench
