#include "data/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <vector>

#include "base/error.h"

namespace quench {
namespace {

std::vector<int64_t> epoch(const Sampler& sampler, int64_t e) {
  std::vector<int64_t> order;
  for (int64_t i = 0; i < sampler.samples(); ++i)
    order.push_back(sampler.index(e * sampler.samples() + i));
  return order;
}

TEST(Sampler, VisitsEverySampleOnceAnEpoch) {
  for (int64_t samples : {1, 2, 3, 10, 255, 256, 257, 1000, 5000}) {
    const Sampler sampler(samples, 5, true);
    for (int64_t e : {0, 1, 2}) {
      const std::vector<int64_t> order = epoch(sampler, e);
      const std::set<int64_t> seen(order.begin(), order.end());
      EXPECT_EQ(static_cast<int64_t>(seen.size()), samples);
      EXPECT_EQ(*seen.begin(), 0);
      EXPECT_EQ(*seen.rbegin(), samples - 1);
    }
  }
}

TEST(Sampler, OrdersEveryEpochAndSeedAnew) {
  const Sampler sampler(100, 5, true);
  EXPECT_NE(epoch(sampler, 0), epoch(sampler, 1));
  EXPECT_NE(epoch(sampler, 0), epoch(Sampler(100, 6, true), 0));
  EXPECT_EQ(epoch(sampler, 3), epoch(Sampler(100, 5, true), 3));
}

TEST(Sampler, OrderIsPinned) {
  EXPECT_EQ(epoch(Sampler(10, 1000, true), 0),
            (std::vector<int64_t>{3, 1, 4, 8, 5, 0, 7, 9, 2, 6}));
}

TEST(Sampler, KeepsTheOrderWithoutShuffle) {
  EXPECT_EQ(epoch(Sampler(4, 5, false), 1), (std::vector<int64_t>{0, 1, 2, 3}));
}

TEST(Sampler, MakesEveryOrderOfThreeEquallyOften) {
  constexpr int kSeeds = 6000;
  std::map<std::vector<int64_t>, int> counts;
  for (int seed = 0; seed < kSeeds; ++seed) ++counts[epoch(Sampler(3, seed, true), 0)];
  EXPECT_EQ(counts.size(), 6u);
  const double sigma = std::sqrt(kSeeds * (1 / 6.0) * (5 / 6.0));
  for (const auto& [order, count] : counts) EXPECT_NEAR(count, kSeeds / 6.0, 4 * sigma);
}

TEST(Sampler, PlacesNeighboursIndependently) {
  // In a random order of n samples the mean distance of consecutive ones is (n + 1) / 3, sigma ~ n
  // / sqrt(18 n).
  constexpr int64_t kSamples = 20000;
  const std::vector<int64_t> order = epoch(Sampler(kSamples, 9, true), 0);
  double sum = 0;
  for (int64_t i = 1; i < kSamples; ++i)
    sum += std::abs(static_cast<double>(order[i] - order[i - 1]));
  EXPECT_NEAR(sum / (kSamples - 1), kSamples / 3.0, 4 * std::sqrt(kSamples / 18.0));
}

TEST(Sampler, GlobalBatchesDoNotDependOnTheNumberOfRanks) {
  for (int64_t step : {0, 7}) {
    std::vector<int64_t> one, two;
    for (int64_t i = 0; i < 8; ++i) one.push_back(stream_position(step, 0, i, 8, 1));
    for (int64_t rank : {0, 1}) {
      for (int64_t i = 0; i < 4; ++i) two.push_back(stream_position(step, rank, i, 4, 2));
    }
    EXPECT_EQ(one, two);
    EXPECT_EQ(one.front(), step * 8);
  }
}

TEST(Sampler, RefusesAnEmptySet) { EXPECT_THROW(Sampler(0, 1, true), Error); }

}  // namespace
}  // namespace quench
