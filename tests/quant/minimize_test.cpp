#include "quant/minimize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace quench {
namespace {

TEST(MinimizeBounded, FindsTheMinimumOfASmoothFunction) {
  const Minimum minimum = minimize_bounded(
      [](double x) { return static_cast<float>((x - 0.3) * (x - 0.3) + 1); }, -1, 4);
  EXPECT_NEAR(minimum.x, 0.3, 1e-3);  // float32 values are flat that close to the minimum
  EXPECT_FLOAT_EQ(minimum.value, 1);
}

TEST(MinimizeBounded, ApproachesABoundWithoutLeavingIt) {
  std::vector<double> points;
  const auto falling = [&](double x) {
    points.push_back(x);
    return static_cast<float>(-x);
  };
  EXPECT_NEAR(minimize_bounded(falling, 2, 5).x, 5, 1e-4);
  for (const double x : points) {
    EXPECT_GT(x, 2);
    EXPECT_LT(x, 5);
  }
}

TEST(MinimizeBounded, StartsWithGoldenSections) {
  std::vector<double> points;
  minimize_bounded(
      [&](double x) {
        points.push_back(x);
        return static_cast<float>(std::abs(x));
      },
      0, 1);
  const double golden = (3 - std::sqrt(5.0)) / 2;
  ASSERT_GE(points.size(), 2u);
  EXPECT_DOUBLE_EQ(points[0], golden);
  EXPECT_DOUBLE_EQ(points[1], golden + golden * (1 - golden));
  EXPECT_LT(points.size(), 60u);
}

TEST(MinimizeBounded, EndsOnAFunctionThatIsNowhereFinite) {
  int evaluations = 0;
  minimize_bounded(
      [&](double) {
        ++evaluations;
        return NAN;
      },
      0, 1);
  EXPECT_LE(evaluations, 500);
}

}  // namespace
}  // namespace quench
