// The sums of a device against the CPU's loop: by tensor operations everywhere, by kernels where
// there is a GPU.
#include "taps/statistics_device.h"

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "taps/statistics.h"
#include "tests/support/golden.h"

namespace quench {
namespace {

at::Tensor with_outliers(at::IntArrayRef shape, at::ScalarType dtype) {
  const at::Tensor x = at::randn(shape, at::detail::createCPUGenerator(3)) + 0.3;
  x.select(-1, 3).mul_(30);
  return x.to(dtype);
}

struct Case {
  at::Tensor x;
  RowKind kind;
};

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (const at::ScalarType dtype : {at::kFloat, at::kHalf, at::kBFloat16})
    for (const RowKind kind : {RowKind::kSequence, RowKind::kToken}) {
      cases.push_back({with_outliers({4, 37, 48}, dtype), kind});
      cases.push_back({with_outliers({1, 1, 300}, dtype), kind});
      cases.push_back({at::full({2, 3, 5}, 0.25).to(dtype), kind});  // no deviation at all
    }
  return cases;
}

// Relative, of float64 sums in another order; a constant's central moments are rounding alone.
constexpr double kRounding = 1e-9;

void expect_near(double ours, double expected) {
  EXPECT_NEAR(ours, expected, kRounding * (std::abs(expected) + 1));
}

void expect_equal(const TensorStatistics& ours, const TensorStatistics& expected) {
  expect_near(ours.mean_inf_norm(), expected.mean_inf_norm());
  expect_near(ours.mean_kurtosis(), expected.mean_kurtosis());
  EXPECT_EQ(ours.max_abs(), expected.max_abs());
  EXPECT_EQ(ours.max_abs_per_dimension(), expected.max_abs_per_dimension());
  EXPECT_EQ(ours.outliers_per_dimension(), expected.outliers_per_dimension());
}

TEST(StatisticsOnADevice, AreThoseOfTheCpu) {
  for (const Case& c : cases()) {
    TensorStatistics expected, ours;
    for (const auto& part : {c.x, c.x * 0.5}) {  // two batches
      expected.add(part, c.kind);
      ours.add(part.to(testing::device()), c.kind);
    }
    expect_equal(ours, expected);
    ours.add(c.x.to(testing::device()), c.kind, /*with_kurtosis=*/false);  // after it was read
    expected.add(c.x, c.kind, false);
    expect_equal(ours, expected);
  }
}

TEST(StatisticsOnADevice, FollowTheLastDimension) {
  TensorStatistics expected, ours;
  for (const int64_t dimensions : {5, 9, 7}) {
    const at::Tensor x = with_outliers({3, 4, dimensions}, at::kFloat);
    expected.add(x, RowKind::kToken);
    ours.add(x.to(testing::device()), RowKind::kToken);
  }
  expect_equal(ours, expected);
}

TEST(StatisticsOnADevice, ANanMakesTheAveragesNan) {
  const at::Tensor x = with_outliers({3, 4, 8}, at::kFloat);
  x[1][2][5] = std::numeric_limits<float>::quiet_NaN();
  TensorStatistics ours;
  ours.add(x.to(testing::device()), RowKind::kSequence);
  EXPECT_TRUE(std::isnan(ours.mean_inf_norm()));
  EXPECT_TRUE(std::isnan(ours.mean_kurtosis()));
  EXPECT_TRUE(std::isnan(ours.max_abs()));
  EXPECT_FALSE(std::isnan(ours.max_abs_per_dimension()[5]));
}

TEST(RowMoments, TensorOperationsGiveWhatTheLoopGives) {
  for (const Case& c : cases()) {
    if (c.kind == RowKind::kToken) continue;
    TensorStatistics expected;
    expected.add(c.x, c.kind);
    const RowMoments rows = row_moments_composed(c.x.flatten(1));
    expect_near(rows.max_abs.mean().item<double>(), expected.mean_inf_norm());
    expect_near(rows.kurtosis.mean().item<double>(), expected.mean_kurtosis());
    const at::Tensor whole = c.x.to(at::kDouble);
    at::Tensor largest = at::zeros({c.x.size(-1)}), outliers = at::zeros_like(largest, at::kLong);
    add_dimensions_composed(c.x.flatten(0, 1), whole.mean(), 6 * whole.std(), largest, outliers);
    EXPECT_EQ(std::vector<float>(largest.const_data_ptr<float>(),
                                 largest.const_data_ptr<float>() + largest.numel()),
              expected.max_abs_per_dimension());
    EXPECT_EQ(outliers.sum().item<int64_t>(), expected.outliers());
  }
}

TEST(RowMoments, TheKernelGivesWhatTensorOperationsGive) {
  for (const Case& c : cases()) {
    const at::Tensor x = c.x.flatten(1);
    const RowMoments expected = row_moments_composed(x),
                     ours = row_moments(x.to(testing::device()));
    for (const auto member :
         {&RowMoments::mean, &RowMoments::central2, &RowMoments::kurtosis, &RowMoments::max_abs})
      EXPECT_TRUE(at::allclose((ours.*member).cpu(), expected.*member, kRounding, kRounding));
  }
}

}  // namespace
}  // namespace quench
