#include "data/image/mix.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "support.h"

namespace quench::testing_images {
namespace {

constexpr int kSize = 16;

// Sample i holds the value i everywhere.
std::vector<float> constant_samples(int count) {
  std::vector<float> pixels;
  for (int i = 0; i < count; ++i) pixels.insert(pixels.end(), 3 * kSize * kSize, float(i));
  return pixels;
}

double mean_of_sample(const std::vector<float>& pixels, int sample) {
  const auto begin = pixels.begin() + sample * 3 * kSize * kSize;
  return std::accumulate(begin, begin + 3 * kSize * kSize, 0.0) / (3 * kSize * kSize);
}

TEST(CutMix, LambdaIsTheShareOfOwnPixels) {
  for (uint64_t key = 0; key < 100; ++key) {
    CounterRng rng({key});
    const MixPlan plan = plan_cutmix(0.01 * static_cast<double>(key), kSize, rng);
    ASSERT_GE(plan.lambda, 0.0);
    ASSERT_LE(plan.lambda, 1.0);
    std::vector<float> pixels = constant_samples(2);
    mix_pixels(pixels, kSize, plan);
    EXPECT_NEAR(mean_of_sample(pixels, 0), 1 - plan.lambda, 1e-6);
    EXPECT_NEAR(mean_of_sample(pixels, 1), plan.lambda, 1e-6);
  }
}

TEST(CutMix, PastesARectangleOfTheAskedSize) {
  for (const int side : {7, 8}) {
    int widest = 0, highest = 0;
    for (uint64_t key = 0; key < 200; ++key) {
      CounterRng rng({key});
      const MixPlan plan = plan_cutmix(1 - side * side / 256.0, kSize, rng);
      widest = std::max(widest, plan.box.width);  // clipping only makes it smaller
      highest = std::max(highest, plan.box.height);
    }
    EXPECT_EQ(widest, side);
    EXPECT_EQ(highest, side);
  }
}

TEST(Mixup, BlendsNeighbours) {
  std::vector<float> pixels = constant_samples(4);
  mix_pixels(pixels, kSize, {0.75, {}});
  EXPECT_NEAR(mean_of_sample(pixels, 0), 0.25, 1e-6);
  EXPECT_NEAR(mean_of_sample(pixels, 1), 0.75, 1e-6);
  EXPECT_NEAR(mean_of_sample(pixels, 2), 2.25, 1e-6);
  EXPECT_NEAR(mean_of_sample(pixels, 3), 2.75, 1e-6);
}

TEST(Mix, RefusesAnOddBatch) {
  std::vector<float> pixels = constant_samples(3);
  EXPECT_NE(error_of([&] { mix_pixels(pixels, kSize, {0.5, {}}); }), "");
}

TEST(MixedTargets, SmoothAndMixLikeTimm) {
  const std::vector<int64_t> labels{0, 2};
  const std::vector<float> rows = mixed_targets(labels, 4, 0.1, {0.75, {}});
  const std::vector<float> expected{
      0.7f,  0.025f, 0.25f, 0.025f,  // .9 * .75 + .025, .9 * .25 + .025
      0.25f, 0.025f, 0.7f,  0.025f};
  ASSERT_EQ(rows.size(), expected.size());
  for (size_t i = 0; i < rows.size(); ++i) EXPECT_NEAR(rows[i], expected[i], 1e-6f) << i;
}

TEST(MixedTargets, RowsSumToOne) {
  const std::vector<int64_t> labels{3, 3, 0, 6, 5, 1};
  for (uint64_t key = 0; key < 50; ++key) {
    CounterRng rng({key});
    const std::vector<float> rows = mixed_targets(labels, 7, 0.1, plan_mix({}, rng));
    for (size_t i = 0; i < labels.size(); ++i) {
      EXPECT_NEAR(std::accumulate(rows.begin() + 7 * i, rows.begin() + 7 * (i + 1), 0.0), 1, 1e-5);
    }
  }
}

TEST(PlanMix, TakesEachKindHalfOfTheTimeAndOnlyWhatIsOn) {
  int cutmix = 0;
  ImageOptions mixup_only, neither;
  mixup_only.cutmix_alpha = 0;
  neither.mixup_alpha = neither.cutmix_alpha = 0;
  for (uint64_t key = 0; key < 400; ++key) {
    CounterRng rng({key});
    const MixPlan plan = plan_mix({}, rng);
    cutmix += plan.box.width > 0 || plan.lambda == 1.0;
    EXPECT_EQ(plan_mix(mixup_only, rng).box, Box{});
    EXPECT_EQ(plan_mix(neither, rng).lambda, 1.0);
  }
  EXPECT_NEAR(cutmix, 200, 45);
}

// Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1)).
TEST(DrawBeta, HasTheRightMoments) {
  for (const double alpha : {0.01, 0.2, 0.8, 1.0, 4.0}) {
    constexpr int kDraws = 20000;
    double sum = 0, squares = 0;
    CounterRng rng({42});
    for (int i = 0; i < kDraws; ++i) {
      const double x = draw_beta(alpha, rng);
      ASSERT_TRUE(x >= 0 && x <= 1) << x;
      sum += x;
      squares += (x - 0.5) * (x - 0.5);
    }
    const double variance = 1 / (4 * (2 * alpha + 1));
    EXPECT_NEAR(sum / kDraws, 0.5, 5 * std::sqrt(variance / kDraws)) << alpha;
    EXPECT_NEAR(squares / kDraws, variance, 0.05 * variance) << alpha;
  }
}

}  // namespace
}  // namespace quench::testing_images
