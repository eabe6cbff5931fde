#include "train/schedule.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace quench {
namespace {

std::vector<double> factors(const ScheduleConfig& schedule, int64_t steps,
                            const std::vector<int64_t>& at) {
  std::vector<double> result;
  for (const int64_t step : at) result.push_back(schedule_factor(schedule, steps, step));
  return result;
}

void expect_near(const std::vector<double>& values, const std::vector<double>& expected) {
  ASSERT_EQ(values.size(), expected.size());
  for (size_t i = 0; i < values.size(); ++i) EXPECT_NEAR(values[i], expected[i], 1e-12) << i;
}

TEST(Schedule, WarmsUpWithoutAStepOfRateZero) {
  expect_near(factors({.warmup_steps = 4, .steps = {}}, 10, {0, 1, 2, 3, 4}),
              {0.2, 0.4, 0.6, 0.8, 1});
}

TEST(Schedule, WarmsUpFromZeroAsTheReference) {
  expect_near(
      factors({.warmup_steps = 4, .steps = {}, .warmup_from_zero = true}, 10, {0, 1, 2, 3, 4}),
      {0, 0.25, 0.5, 0.75, 1});
}

TEST(Schedule, LinearFallsToZero) {
  expect_near(
      factors({.shape = "linear", .warmup_steps = 4, .steps = {}}, 10, {4, 5, 7, 9, 10, 11}),
      {1, 5. / 6, 0.5, 1. / 6, 0, 0});
  expect_near(factors({.shape = "linear", .steps = {}}, 10, {0, 1, 9}), {1, 0.9, 0.1});
}

TEST(Schedule, LinearReachesItsFinalFractionByStretching) {
  expect_near(
      factors({.shape = "linear", .steps = {}, .final_lr_fraction = 0.5}, 10, {0, 4, 9, 10}),
      {1, 0.8, 0.55, 0.5});
  // 1000 / (1 - 0.8 * 0.5) = 1666.7 and 200 / 0.6 = 333.3, both rounded down as the reference does.
  expect_near(factors({.shape = "linear",
                       .warmup_steps = 200,
                       .steps = {},
                       .warmup_from_zero = true,
                       .final_lr_fraction = 0.5},
                      1000, {100, 333, 999}),
              {100. / 333, 1, 667. / 1333});
}

TEST(Schedule, TheFloorHoldsBeyondTheEnd) {
  for (const char* shape : {"linear", "cosine"})
    for (const int64_t warmup : {0, 7, 100})
      for (const double end : {0., 0.1, 0.9}) {
        const ScheduleConfig schedule{
            .shape = shape, .warmup_steps = warmup, .steps = {}, .final_lr_fraction = end};
        expect_near(factors(schedule, 1000, {1000, 1001, 5000}), {end, end, end});
        EXPECT_GE(schedule_factor(schedule, 1000, 999), end);
      }
}

TEST(Schedule, CosineFallsToItsFinalFraction) {
  const ScheduleConfig schedule{
      .shape = "cosine", .warmup_steps = 2, .steps = {}, .final_lr_fraction = 0.2};
  expect_near(factors(schedule, 10, {0, 1, 2, 4, 6, 10, 15}),
              {1. / 3, 2. / 3, 1, 0.2 + 0.8 * 0.5 * (1 + std::sqrt(0.5)), 0.6, 0.2, 0.2});
  expect_near(factors({.shape = "cosine", .steps = {}}, 4, {0, 2, 4}), {1, 0.5, 0});
}

TEST(Schedule, ConstantStaysAfterTheWarmUp) {
  expect_near(factors({.shape = "constant", .warmup_steps = 1, .steps = {}}, 10, {0, 1, 5, 9, 20}),
              {0.5, 1, 1, 1, 1});
}

TEST(Schedule, HasALengthOfItsOwn) {
  expect_near(factors({.shape = "linear", .steps = 20}, 10, {0, 10, 19}), {1, 0.5, 0.05});
}

TEST(Schedule, MayBeAllWarmUp) {
  expect_near(
      factors({.shape = "linear", .warmup_steps = 10, .steps = {}, .warmup_from_zero = true}, 10,
              {9, 10}),
      {0.9, 0});
}

}  // namespace
}  // namespace quench
