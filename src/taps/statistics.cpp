#include "taps/statistics.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <numeric>
#include <utility>

#include "base/error.h"
#include "base/simd.h"
#include "taps/statistics_device.h"

namespace quench {
namespace {

constexpr double kOutlierSigmas = 6;
constexpr int64_t kGrainSize = 32768;  // elements a task

// Power sums of d = x - pivot over `count` values, and max |x|. With a pivot within the bulk of the
// data, central moments follow from these without harmful cancellation in float64.
struct Moments {
  double pivot = 0;
  int64_t count = 0;
  double sum1 = 0, sum2 = 0, sum3 = 0, sum4 = 0;
  float max_abs = 0;

  double mean() const { return pivot + sum1 / static_cast<double>(count); }
  // Sum of (x - mean)^2.
  double central2() const { return sum2 - sum1 * sum1 / static_cast<double>(count); }
  double kurtosis() const {
    const double n = static_cast<double>(count);
    const double variance = central2() / (n - 1);
    const double a = sum1 / n;
    const double m4 = sum4 / n - 4 * a * sum3 / n + 6 * a * a * sum2 / n - 3 * a * a * a * a;
    return m4 / (variance * variance + kKurtosisEpsilon);
  }
};

double pivot_of(const float* x, int64_t size) {
  const int64_t count = std::min<int64_t>(size, 256);
  const double pivot = std::accumulate(x, x + count, 0.0) / static_cast<double>(count);
  return std::isfinite(pivot) ? pivot : 0;
}

// Adds one vector [size] of the row to `moments`, and raises the largest |x| of each dimension.
QUENCH_SIMD void add_vector(const float* x, int64_t size, Moments& moments, float* dimension_max) {
  const double pivot = moments.pivot;
  double sum1 = 0, sum2 = 0, sum3 = 0, sum4 = 0;
  float max_abs = 0;
#pragma omp simd reduction(+ : sum1, sum2, sum3, sum4) reduction(max : max_abs)
  for (int64_t i = 0; i < size; ++i) {
    const float magnitude = std::abs(x[i]);
    const double d = x[i] - pivot;
    const double square = d * d;
    sum1 += d;
    sum2 += square;
    sum3 += square * d;
    sum4 += square * square;
    max_abs = std::max(max_abs, magnitude);
    dimension_max[i] = std::max(dimension_max[i], magnitude);
  }
  moments.count += size;
  moments.sum1 += sum1;
  moments.sum2 += sum2;
  moments.sum3 += sum3;
  moments.sum4 += sum4;
  moments.max_abs = std::max(moments.max_abs, max_abs);
}

// Rows of `vectors` vectors [D] each, one after the other in memory.
struct Rows {
  const float* data;
  int64_t count, vectors, dimensions;

  int64_t size() const { return vectors * dimensions; }
};

Moments measure_row(const float* row, const Rows& rows, std::vector<float>& dimension_max) {
  Moments moments;
  moments.pivot = pivot_of(row, rows.size());
  for (int64_t v = 0; v < rows.vectors; ++v) {
    add_vector(row + v * rows.dimensions, rows.dimensions, moments, dimension_max.data());
  }
  if (std::any_of(row, row + (std::isfinite(moments.sum1) ? 0 : rows.size()),
                  [](float x) { return std::isnan(x); })) {
    moments.max_abs = std::numeric_limits<float>::quiet_NaN();
  }
  return moments;
}

struct Measured {
  std::vector<Moments> rows;
  std::vector<float> dimension_max;
};

Measured measure(const Rows& rows) {
  Measured result{std::vector<Moments>(static_cast<size_t>(rows.count)),
                  std::vector<float>(static_cast<size_t>(rows.dimensions))};
  std::mutex mutex;
  at::parallel_for(0, rows.count, kGrainSize / rows.size() + 1, [&](int64_t begin, int64_t end) {
    std::vector<float> dimension_max(result.dimension_max.size());
    for (int64_t r = begin; r < end; ++r) {
      result.rows[static_cast<size_t>(r)] =
          measure_row(rows.data + r * rows.size(), rows, dimension_max);
    }
    const std::lock_guard<std::mutex> lock(mutex);
    for (size_t d = 0; d < dimension_max.size(); ++d) {
      result.dimension_max[d] = std::max(result.dimension_max[d], dimension_max[d]);
    }
  });
  return result;
}

struct Spread {
  double mean, deviation;
};

Spread spread_of(const std::vector<Moments>& rows) {
  double count = 0, mean = 0, squares = 0;
  for (const Moments& row : rows) {
    count += static_cast<double>(row.count);
    mean += row.mean() * static_cast<double>(row.count);
  }
  mean /= count;
  for (const Moments& row : rows) {
    const double n = static_cast<double>(row.count), shift = row.mean() - mean;
    squares += row.central2() + n * shift * shift;
  }
  return {mean, std::sqrt(squares / (count - 1))};
}

// Adds to `counts` [D] how many values of each dimension are outliers. Only dimensions with a value
// large enough to be one are looked at: few, as a rule.
void count_outliers(const Rows& rows, const Measured& measured, std::vector<int64_t>& counts) {
  const Spread spread = spread_of(measured.rows);
  // NaN where rounding leaves a negative variance: a constant tensor, which has no outliers.
  const double limit = kOutlierSigmas * spread.deviation;
  std::vector<size_t> dimensions;
  for (size_t d = 0; d < measured.dimension_max.size(); ++d) {
    if (measured.dimension_max[d] > limit - std::abs(spread.mean)) dimensions.push_back(d);
  }
  if (dimensions.empty()) return;
  for (int64_t v = 0; v < rows.count * rows.vectors; ++v) {
    const float* x = rows.data + v * rows.dimensions;
    for (const size_t d : dimensions) counts[d] += std::abs(x[d] - spread.mean) > limit;
  }
}

}  // namespace

void TensorStatistics::Average::add(double value) {
  sum += value;
  ++count;
}

double TensorStatistics::Average::mean() const { return sum / static_cast<double>(count); }

void TensorStatistics::add(const at::Tensor& x, RowKind kind, bool with_kurtosis) {
  check(x.numel() > 0, "outlier statistics of the empty tensor of shape ", x.sizes());
  check(x.dim() > 0, "outlier statistics need a tensor with dimensions");
  const int64_t vectors = x.numel() / x.size(-1);
  const int64_t rows = kind == RowKind::kToken || x.dim() == 1 ? vectors : x.size(0);
  values_ += x.numel();
  if (x.is_cpu())
    add_on_cpu(x.detach().to(at::kFloat).contiguous(), rows, with_kurtosis);
  else
    add_on_device(x.detach().contiguous(), rows, with_kurtosis);
}

void TensorStatistics::add_on_cpu(const at::Tensor& x, int64_t count, bool with_kurtosis) {
  const int64_t dimensions = x.size(-1), vectors = x.numel() / dimensions;
  if (dimension_max_.size() < static_cast<size_t>(dimensions)) {
    dimension_max_.resize(static_cast<size_t>(dimensions));
    dimension_outliers_.resize(static_cast<size_t>(dimensions));
  }
  const Rows rows{x.const_data_ptr<float>(), count, vectors / count, dimensions};
  const Measured measured = measure(rows);
  for (const Moments& row : measured.rows) {
    inf_norm_.add(row.max_abs);
    if (with_kurtosis) kurtosis_.add(row.kurtosis());
    max_abs_ = std::isnan(row.max_abs) ? row.max_abs : std::max<double>(max_abs_, row.max_abs);
  }
  for (size_t d = 0; d < measured.dimension_max.size(); ++d) {
    dimension_max_[d] = std::max(dimension_max_[d], measured.dimension_max[d]);
  }
  count_outliers(rows, measured, dimension_outliers_);
}

void TensorStatistics::add_on_device(const at::Tensor& source, int64_t count, bool with_kurtosis) {
  const at::Tensor x = source.scalar_type() == at::kDouble ? source.to(at::kFloat) : source;
  const int64_t dimensions = x.size(-1);
  if (device_.dimension_max.defined() && device_.dimension_max.size(0) < dimensions) read_device();
  if (!device_.inf_norm.defined()) {
    const auto zeros = [&](at::IntArrayRef shape, at::ScalarType dtype) {
      return at::zeros(shape, x.options().dtype(dtype));
    };
    for (at::Tensor* sum : {&device_.inf_norm, &device_.kurtosis, &device_.max_abs})
      *sum = zeros({}, at::kDouble);
    device_.dimension_max = zeros({dimensions}, at::kFloat);
    device_.dimension_outliers = zeros({dimensions}, at::kLong);
  }
  const RowMoments rows = row_moments(x.view({count, -1}));
  device_.inf_norm += rows.max_abs.sum();
  inf_norm_.count += count;
  if (with_kurtosis) {
    device_.kurtosis += rows.kurtosis.sum();
    kurtosis_.count += count;
  }
  device_.max_abs.copy_(at::maximum(device_.max_abs, rows.max_abs.amax()));
  // Mean and deviation of the whole tensor, from those of rows of equal size.
  const double all = static_cast<double>(x.numel()), size = all / static_cast<double>(count);
  const at::Tensor mean = rows.mean.mean(),
                   squares = (rows.central2 + size * (rows.mean - mean).square()).sum();
  at::Tensor largest = device_.dimension_max.narrow(0, 0, dimensions),
             outliers = device_.dimension_outliers.narrow(0, 0, dimensions);
  add_dimensions(x.view({-1, dimensions}), mean, kOutlierSigmas * (squares / (all - 1)).sqrt(),
                 largest, outliers);
}

void TensorStatistics::read_device() const {
  if (!device_.inf_norm.defined()) return;
  const OnDevice seen = std::exchange(device_, OnDevice());
  inf_norm_.sum += seen.inf_norm.item<double>();
  kurtosis_.sum += seen.kurtosis.item<double>();
  const double largest = seen.max_abs.item<double>();
  max_abs_ = std::isnan(largest) ? largest : std::max(max_abs_, largest);
  const at::Tensor maxima = seen.dimension_max.cpu(), counts = seen.dimension_outliers.cpu();
  const size_t dimensions = static_cast<size_t>(maxima.size(0));
  if (dimension_max_.size() < dimensions) {
    dimension_max_.resize(dimensions);
    dimension_outliers_.resize(dimensions);
  }
  for (size_t d = 0; d < dimensions; ++d) {
    dimension_max_[d] = std::max(dimension_max_[d], maxima.const_data_ptr<float>()[d]);
    dimension_outliers_[d] += counts.const_data_ptr<int64_t>()[d];
  }
}

double TensorStatistics::mean_inf_norm() const {
  read_device();
  return inf_norm_.mean();
}

double TensorStatistics::mean_kurtosis() const {
  read_device();
  return kurtosis_.mean();
}

double TensorStatistics::max_abs() const {
  read_device();
  return max_abs_;
}

std::vector<float> TensorStatistics::max_abs_per_dimension() const {
  read_device();
  return dimension_max_;
}

std::vector<int64_t> TensorStatistics::outliers_per_dimension() const {
  read_device();
  return dimension_outliers_;
}

int64_t TensorStatistics::outliers() const {
  read_device();
  return std::accumulate(dimension_outliers_.begin(), dimension_outliers_.end(), int64_t{0});
}

Json TensorStatistics::to_json() const {
  read_device();
  std::vector<size_t> dimensions;
  for (size_t d = 0; d < dimension_outliers_.size(); ++d) {
    if (dimension_outliers_[d] > 0) dimensions.push_back(d);
  }
  std::stable_sort(dimensions.begin(), dimensions.end(), [this](size_t a, size_t b) {
    return dimension_outliers_[a] > dimension_outliers_[b];
  });

  Json json{{"inf_norm", mean_inf_norm()}};
  if (kurtosis_.count > 0) json["kurtosis"] = mean_kurtosis();
  json["max_abs"] = max_abs_;
  json["values"] = values_;
  json["outliers"] = outliers();
  json["outlier_dimensions"] = Json::array();
  for (const size_t d : dimensions) {
    json["outlier_dimensions"].push_back(
        {{"dimension", d}, {"outliers", dimension_outliers_[d]}, {"max_abs", dimension_max_[d]}});
  }
  return json;
}

}  // namespace quench
