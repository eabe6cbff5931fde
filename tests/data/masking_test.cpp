#include "data/masking.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"

namespace quench {
namespace {

constexpr int64_t kSize = 200000;
const MaskingOptions kOptions{
    .probability = 0.15, .mask_id = 4, .vocab_size = 1000, .special_ids = {0, 2, 3}};

struct Masked {
  std::vector<int64_t> original, ids, labels;
};

Masked masked(uint64_t position, const MaskingOptions& options = kOptions) {
  Masked m;
  for (int64_t i = 0; i < kSize; ++i) m.original.push_back(i % 8 == 0 ? i / 8 % 4 : 500);
  m.ids = m.original;
  m.labels.resize(kSize);
  CounterRng rng{kMasking, 1000, position};
  mask_tokens(m.ids, m.labels, options, rng);
  return m;
}

// `count` of `n` within four standard deviations of probability p.
void expect_rate(int64_t count, int64_t n, double p) {
  EXPECT_NEAR(static_cast<double>(count), n * p, 4 * std::sqrt(n * p * (1 - p)));
}

TEST(Masking, FollowsTheEightyTenTenRule) {
  const Masked m = masked(0);
  int64_t candidates = 0, selected = 0, to_mask = 0, to_random = 0;
  for (int64_t i = 0; i < kSize; ++i) {
    if (m.original[i] != 500) continue;
    ++candidates;
    if (m.labels[i] == kIgnoredLabel) continue;
    ++selected;
    to_mask += m.ids[i] == 4;
    to_random += m.ids[i] != 4 && m.ids[i] != 500;
  }
  expect_rate(selected, candidates, 0.15);
  expect_rate(to_mask, selected,
              0.8 + 0.1 / 1000);  // the random id may be the mask's, or the original
  expect_rate(to_random, selected, 0.1 * 998 / 1000);
}

TEST(Masking, LabelsAreTheOriginalsOfTheSelected) {
  const Masked m = masked(0);
  for (int64_t i = 0; i < kSize; ++i) {
    if (m.labels[i] == kIgnoredLabel) {
      ASSERT_EQ(m.ids[i], m.original[i]) << i;
    } else {
      ASSERT_EQ(m.labels[i], m.original[i]) << i;
    }
  }
}

TEST(Masking, NeverSelectsSpecialTokensButUnknownOnes) {
  MaskingOptions everything = kOptions;
  everything.probability = 1;
  const Masked m = masked(0, everything);
  for (int64_t i = 0; i < kSize; ++i) {
    const bool special = m.original[i] == 0 || m.original[i] == 2 || m.original[i] == 3;
    ASSERT_EQ(m.labels[i] == kIgnoredLabel, special) << i;
  }
}

TEST(Masking, RandomIdsCoverTheWholeVocabulary) {
  MaskingOptions options = kOptions;
  options.probability = 1;
  options.vocab_size = 5;
  options.mask_id = 0;
  std::vector<int64_t> seen(5);
  for (int64_t id : masked(0, options).ids) {
    if (id < 5) ++seen[id];
  }
  EXPECT_GT(*std::ranges::min_element(seen), 0);
}

TEST(Masking, IsAPureFunctionOfItsKey) {
  EXPECT_EQ(masked(3).ids, masked(3).ids);
  EXPECT_NE(masked(3).labels, masked(4).labels);
}

TEST(Masking, ProbabilityZeroSelectsNothing) {
  MaskingOptions options = kOptions;
  options.probability = 0;
  const Masked m = masked(0, options);
  EXPECT_EQ(m.ids, m.original);
  EXPECT_EQ(std::ranges::count(m.labels, kIgnoredLabel), kSize);
}

TEST(Masking, RefusesATokenizerWithoutMask) {
  MaskingOptions options = kOptions;
  options.mask_id = -1;
  EXPECT_THROW(masked(0, options), Error);
}

}  // namespace
}  // namespace quench
