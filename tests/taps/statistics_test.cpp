#include "taps/statistics.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "tests/quant/units.h"

namespace quench {
namespace {

// The definition, two passes in float64 over the rows [R, N].
double mean_kurtosis(const at::Tensor& rows) {
  const at::Tensor x = rows.to(at::kDouble);
  const at::Tensor fourth = (x - x.mean(1, true)).pow(4).mean(1);
  return (fourth / (x.std(1, true).pow(4) + 1e-6)).mean().item<double>();
}

at::Tensor with_outliers(at::IntArrayRef shape) {
  const at::Tensor x = at::randn(shape);
  x.select(-1, 3).mul_(20);
  return x;
}

TEST(TensorStatistics, KurtosisIsThatOfTheReference) {
  const Units units = read_units(committed_units_folder());
  const at::Tensor& x = units.tensors.at("kurtosis.x");
  const at::Tensor& expected = units.tensors.at("kurtosis.y");
  for (int64_t row = 0; row < x.size(0); ++row) {
    TensorStatistics statistics;
    statistics.add(x[row].unsqueeze(0), RowKind::kSequence);
    const double reference = expected[row].item<double>();
    EXPECT_NEAR(statistics.mean_kurtosis(), reference, 2e-6 * reference);  // it computes in float32
  }
}

TEST(TensorStatistics, RowsAreSequencesOrTokens) {
  at::manual_seed(1);
  const at::Tensor x = with_outliers({5, 7, 19});
  for (const auto& [kind, rows] :
       {std::pair{RowKind::kSequence, x.flatten(1)}, {RowKind::kToken, x.flatten(0, 1)}}) {
    TensorStatistics statistics;
    statistics.add(x, kind);
    EXPECT_NEAR(statistics.mean_inf_norm(),
                rows.abs().amax(1).mean(0, false, at::kDouble).item<double>(), 1e-12);
    EXPECT_NEAR(statistics.mean_kurtosis(), mean_kurtosis(rows), 1e-9);
  }
}

TEST(TensorStatistics, AveragesRowsOverBatchesOfDifferentSize) {
  at::manual_seed(2);
  const at::Tensor x = with_outliers({6, 9, 16});
  TensorStatistics statistics;
  statistics.add(x.narrow(0, 0, 4), RowKind::kSequence);
  statistics.add(x.narrow(0, 4, 2), RowKind::kSequence, false);
  EXPECT_NEAR(statistics.mean_inf_norm(),
              x.flatten(1).abs().amax(1).mean(0, false, at::kDouble).item<double>(), 1e-12);
  EXPECT_NEAR(statistics.mean_kurtosis(), mean_kurtosis(x.narrow(0, 0, 4).flatten(1)), 1e-9);
  EXPECT_EQ(statistics.max_abs(), x.abs().max().item<double>());
}

TEST(TensorStatistics, StaysAccurateFarFromZeroAndOverLongRows) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({2, 400, 768}, at::kDouble).to(at::kFloat) + 1000;
  x.narrow(1, 0, 1).fill_(1040);  // the start of a row is no guide to the rest
  TensorStatistics statistics;
  statistics.add(x, RowKind::kSequence);
  EXPECT_NEAR(statistics.mean_kurtosis() / mean_kurtosis(x.flatten(1)), 1, 1e-9);
}

TEST(TensorStatistics, CountsOutliersByDimension) {
  at::manual_seed(4);
  const at::Tensor x = at::randn({4, 32, 64}).clamp(-3, 3) + 0.5;
  x[0][3][10] = 40;
  x[2][31][10] = -40;
  x[3][0][63] = 30;
  TensorStatistics statistics;
  statistics.add(x, RowKind::kSequence);
  EXPECT_EQ(statistics.outliers(), 3);
  EXPECT_EQ(statistics.outliers_per_dimension()[10], 2);
  EXPECT_EQ(statistics.outliers_per_dimension()[63], 1);
  EXPECT_EQ(statistics.max_abs_per_dimension()[10], 40);
  EXPECT_EQ(statistics.max_abs_per_dimension()[0], x.select(2, 0).abs().max().item<float>());

  const Json json = statistics.to_json();
  EXPECT_EQ(json.at("outliers"), 3);
  EXPECT_EQ(json.at("values"), x.numel());
  EXPECT_EQ(json.at("outlier_dimensions").size(), 2u);
  EXPECT_EQ(json.at("outlier_dimensions")[0],
            (Json{{"dimension", 10}, {"outliers", 2}, {"max_abs", 40.0f}}));
}

TEST(TensorStatistics, OutliersAreMeasuredAgainstTheWholeTensor) {
  at::manual_seed(5);
  const at::Tensor x = with_outliers({3, 50, 40}) + 2;
  const double mean = x.to(at::kDouble).mean().item<double>();
  const double limit = 6 * x.to(at::kDouble).std(true).item<double>();
  const at::Tensor expected = ((x.to(at::kDouble) - mean).abs() > limit).sum(at::IntArrayRef{0, 1});
  for (const RowKind kind : {RowKind::kSequence, RowKind::kToken}) {
    TensorStatistics statistics;
    statistics.add(x, kind);
    for (int64_t d = 0; d < 40; ++d) {
      EXPECT_EQ(statistics.outliers_per_dimension()[static_cast<size_t>(d)],
                expected[d].item<int64_t>());
    }
    EXPECT_GT(statistics.outliers(), 0);
  }
}

TEST(TensorStatistics, TakesOtherStridesAndDtypes) {
  at::manual_seed(6);
  const at::Tensor x = with_outliers({3, 5, 8});
  TensorStatistics plain, transposed, wide;
  plain.add(x, RowKind::kSequence);
  transposed.add(x.transpose(1, 2).contiguous().transpose(1, 2), RowKind::kSequence);
  wide.add(x.to(at::kDouble), RowKind::kSequence);
  EXPECT_EQ(plain.to_json(), transposed.to_json());
  EXPECT_EQ(plain.to_json(), wide.to_json());
}

TEST(TensorStatistics, ConstantTensorsHaveNoOutliers) {
  for (const double value : {0.0, 3.7}) {
    TensorStatistics statistics;
    statistics.add(at::full({2, 3, 4}, value), RowKind::kSequence);
    EXPECT_EQ(statistics.outliers(), 0);
    EXPECT_EQ(statistics.mean_kurtosis(), 0);
    EXPECT_FLOAT_EQ(statistics.mean_inf_norm(), value);
  }
}

TEST(TensorStatistics, NanAndInfinityShow) {
  const at::Tensor x = at::randn({2, 30, 20});
  x[1][29][19] = std::numeric_limits<float>::quiet_NaN();
  TensorStatistics with_nan;
  with_nan.add(x, RowKind::kSequence);
  EXPECT_TRUE(std::isnan(with_nan.mean_inf_norm()));
  EXPECT_TRUE(std::isnan(with_nan.mean_kurtosis()));
  EXPECT_TRUE(std::isnan(with_nan.max_abs()));
  x[1][29][19] = -std::numeric_limits<float>::infinity();
  TensorStatistics with_infinity;
  with_infinity.add(x, RowKind::kSequence);
  EXPECT_TRUE(std::isinf(with_infinity.mean_inf_norm()));
  EXPECT_TRUE(std::isinf(with_infinity.max_abs()));
  EXPECT_TRUE(std::isnan(with_infinity.mean_kurtosis()));
}

TEST(TensorStatistics, RefusesEmptyTensors) {
  TensorStatistics statistics;
  EXPECT_THROW(statistics.add(at::empty({0, 4}), RowKind::kSequence), Error);
}

TEST(TensorStatistics, TakesBatchesOfDifferentWidth) {
  TensorStatistics statistics;
  statistics.add(at::ones({2, 4}), RowKind::kSequence);
  statistics.add(at::full({2, 6}, 2), RowKind::kSequence);
  statistics.add(at::full({2, 3}, 3), RowKind::kSequence);
  EXPECT_EQ(statistics.max_abs_per_dimension(), (std::vector<float>{3, 3, 3, 2, 2, 2}));
}

TEST(TensorStatistics, LeavesOutKurtosisThatWasNotMeasured) {
  TensorStatistics statistics;
  statistics.add(at::ones({2, 4}), RowKind::kSequence, false);
  EXPECT_FALSE(statistics.to_json().contains("kurtosis"));
}

}  // namespace
}  // namespace quench
