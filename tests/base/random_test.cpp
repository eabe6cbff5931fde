#include "base/random.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace quench {
namespace {

// These values are part of every result; they must never change.
TEST(CounterRng, DrawsPinnedValues) {
  CounterRng rng{1, 2, 3};
  EXPECT_EQ(rng.next(), 0x214d4c07ecfeaac5u);
  EXPECT_EQ(rng.next(), 0x6ff419cb83dfe1e6u);
  EXPECT_EQ(rng.uniform(), 0x1.e8ebff222afep-1);
  EXPECT_EQ(rng.below(1000), 275u);
  EXPECT_NEAR(rng.normal(), 2.206175799763153, 1e-14);
  CounterRng empty{};
  EXPECT_EQ(empty.next(), 0xe220a8397b1dcdafu);  // SplitMix64's first draw from seed 0
}

TEST(CounterRng, PermutesAsPinned) {
  CounterRng rng{7};
  EXPECT_EQ(permutation(8, rng), (std::vector<int64_t>{2, 6, 0, 1, 7, 3, 4, 5}));
}

TEST(CounterRng, DependsOnEveryPartOfTheKeyAndItsPlace) {
  const auto first = [](std::initializer_list<uint64_t> key) { return CounterRng(key).next(); };
  const std::array<uint64_t, 7> draws = {first({1, 2}), first({2, 1}),    first({1, 3}),
                                         first({1}),    first({1, 2, 0}), first({0, 1, 2}),
                                         first({0})};
  for (size_t i = 0; i < draws.size(); ++i) {
    EXPECT_EQ(std::ranges::count(draws, draws[i]), 1) << i;
  }
}

TEST(CounterRng, BelowIsUniform) {
  CounterRng rng{11};
  std::array<int, 6> counts{};
  constexpr int kDraws = 60000;
  for (int i = 0; i < kDraws; ++i) ++counts[rng.below(6)];
  const double sigma = std::sqrt(kDraws * (1 / 6.0) * (5 / 6.0));
  for (int count : counts) EXPECT_NEAR(count, kDraws / 6.0, 4 * sigma);
}

TEST(CounterRng, BelowRejectsWhatWouldFavourSmallResults) {
  // With n = 3 * 2^62 a plain multiplication would return every third result twice as often.
  CounterRng rng{12};
  constexpr uint64_t kLargest = uint64_t{3} << 62;
  constexpr int kDraws = 30000;
  int multiples = 0;
  for (int i = 0; i < kDraws; ++i) multiples += rng.below(kLargest) % 3 == 0;
  EXPECT_NEAR(multiples, kDraws / 3.0, 4 * std::sqrt(kDraws * 2 / 9.0));
}

TEST(CounterRng, NormalHasMeanZeroAndUnitVariance) {
  CounterRng rng{13};
  constexpr int kDraws = 100000;
  double sum = 0, squares = 0;
  for (int i = 0; i < kDraws; ++i) {
    const double x = rng.normal();
    sum += x;
    squares += x * x;
  }
  EXPECT_NEAR(sum / kDraws, 0, 4 / std::sqrt(kDraws));
  EXPECT_NEAR(squares / kDraws, 1, 4 * std::sqrt(2.0 / kDraws));
}

}  // namespace
}  // namespace quench
