#include "eval/sinks.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/support/golden.h"

namespace quench {
namespace {

const char* const kTap = "layers.0.attention.probs";

Batch batch_of(int64_t size, int64_t length) {
  Batch batch;
  batch.input_ids =
      at::zeros({size, length}, at::TensorOptions(testing::device()).dtype(at::kLong));
  return batch;
}

Json sinks_of(const at::Tensor& probs, bool causal, const at::Tensor& mask = {}) {
  SinkListener listener(causal);
  Batch batch = batch_of(probs.size(0), probs.size(2));
  if (mask.defined()) batch.attention_mask = mask.to(testing::device());
  listener.begin(batch);
  EXPECT_TRUE(listener.wants(kTap));
  listener.activation(kTap, probs.to(testing::device()));
  return listener.report(1);
}

at::Tensor example() {
  return at::tensor(
             {1.0, 0.0, 0.0, 0.0, 0.8, 0.2, 0.0, 0.0, 0.6, 0.1, 0.3, 0.0, 0.7, 0.1, 0.1, 0.1},
             at::kDouble)
      .view({1, 1, 4, 4});
}

// alpha = (0.775, 0.1333, 0.2, 0.1), and the reverse in a second head.
TEST(SinkListener, CountsHeadsWhoseQueriesPayMoreThanThreeTenthsToTheFirstKey) {
  const at::Tensor other =
      at::tensor({1.0, 0.0, 0.0, 0.0, 0.1, 0.9, 0.0, 0.0, 0.0, 0.9, 0.1, 0.0, 0.0, 0.9, 0.1, 0.0},
                 at::kDouble)
          .view({1, 1, 4, 4});
  const Json sinks = sinks_of(at::cat({example(), other}, 1), /*causal=*/true);
  EXPECT_NEAR(sinks.at("per_head")[0][0].get<double>(), 0.775, 1e-12);
  EXPECT_NEAR(sinks.at("per_head")[0][1].get<double>(), 0.275, 1e-12);
  EXPECT_EQ(sinks.at("rate"), 0.5);
  EXPECT_EQ(sinks.at("rate_any_key"), 1);  // the other's second key: 0.9
  EXPECT_NEAR(sinks.at("uniform").get<double>(), (1 + 1. / 2 + 1. / 3 + 1. / 4) / 4, 1e-12);
  EXPECT_EQ(sinks.at("sequences"), 1);
}

// Rows are divided by their sums for the rate; what a head pays stays as it is.
TEST(SinkListener, ARowNeedNotSumToOne) {
  const Json sinks = sinks_of(example() * 0.1, /*causal=*/true);
  EXPECT_NEAR(sinks.at("per_head")[0][0].get<double>(), 0.0775, 1e-12);
  EXPECT_EQ(sinks.at("rate"), 1);
  EXPECT_EQ(sinks_of(at::zeros({1, 1, 4, 4}), true).at("rate"), 0);
}

TEST(SinkListener, PaddingNeitherPaysNorIsPaid) {
  // The last two positions are padding: their queries pay everything to key 0, and do not count.
  const at::Tensor probs =
      at::tensor({0.1, 0.9, 0.0, 0.0, 0.1, 0.9, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0},
                 at::kDouble)
          .view({1, 1, 4, 4});
  const at::Tensor mask = at::tensor({1, 1, 0, 0}, at::kLong).to(at::kBool).unsqueeze(0);
  const Json sinks = sinks_of(probs, /*causal=*/false, mask);
  EXPECT_NEAR(sinks.at("per_head")[0][0].get<double>(), 0.1, 1e-12);
  EXPECT_EQ(sinks.at("uniform"), 0.5);
  EXPECT_EQ(sinks.at("rate"), 0);
  EXPECT_EQ(sinks.at("rate_any_key"), 1);
}

TEST(SinkListener, LooksAtTheFirstHundredSequences) {
  SinkListener listener(false);
  for (int64_t sequences = 0; sequences < 120; sequences += 40) {
    listener.begin(batch_of(40, 4));
    EXPECT_TRUE(listener.wants(kTap)) << sequences;
    listener.activation(kTap, at::full({40, 2, 4, 4}, 0.25));
  }
  listener.begin(batch_of(40, 4));
  EXPECT_FALSE(listener.wants(kTap));
  const Json sinks = listener.report(1);
  EXPECT_EQ(sinks.at("sequences"), 120);
  EXPECT_EQ(sinks.at("per_head"), Json({{0.25, 0.25}}));
}

}  // namespace
}  // namespace quench
