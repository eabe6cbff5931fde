// Outlier statistics of one tap, accumulated over evaluation batches (Bondarenko et al. 2023,
// "Quantizable Transformers", sections 3 and 5).
//
// For each row (N values, mean m, standard deviation s with N - 1):
//   inf norm  max |x|
//   kurtosis  mean((x - m)^4) / (s^4 + 1e-6), 3 for a normal distribution
// Both are averaged over all rows with equal weight. Outliers are values with |x - m| > 6 s, m and
// s (with n - 1) those of the whole tensor of the batch.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "base/json.h"

namespace quench {

inline constexpr double kKurtosisEpsilon = 1e-6;

enum class RowKind {
  kSequence,  // a row for each index of dimension 0: all tokens of a sequence together
  kToken      // a row for each vector of the last dimension
};

class TensorStatistics {
 public:
  // `x` is [..., D]; where D differs between calls, figures per dimension have the largest. Adds to
  // the average of the kurtosis only if `with_kurtosis`. Throws Error where `x` is empty. A NaN
  // makes the averages NaN, which JSON writes as null. What is added on a device that is not the
  // CPU stays there, until a figure is asked for.
  void add(const at::Tensor& x, RowKind rows, bool with_kurtosis = true);

  double mean_inf_norm() const;  // NaN before the first row
  double mean_kurtosis() const;
  double max_abs() const;
  int64_t outliers() const;
  std::vector<float> max_abs_per_dimension() const;     // [D]
  std::vector<int64_t> outliers_per_dimension() const;  // [D]

  // {"inf_norm", "kurtosis" (only if measured), "max_abs", "values", "outliers",
  //  "outlier_dimensions": [{"dimension", "outliers", "max_abs"}, ...]}, most outliers first.
  Json to_json() const;

 private:
  struct Average {
    double sum = 0;
    int64_t count = 0;
    void add(double value);
    double mean() const;
  };

  // What add() gathered on a device; undefined tensors: nothing yet.
  struct OnDevice {
    at::Tensor inf_norm, kurtosis, max_abs;  // sums over the rows, and the largest: float64, 0-dim
    at::Tensor dimension_max, dimension_outliers;  // [D] float32, int64
  };

  void add_on_cpu(const at::Tensor& x, int64_t rows, bool with_kurtosis);
  void add_on_device(const at::Tensor& x, int64_t rows, bool with_kurtosis);
  void read_device() const;  // moves `device_` into the rest

  mutable OnDevice device_;
  mutable Average inf_norm_, kurtosis_;
  mutable double max_abs_ = 0;
  int64_t values_ = 0;
  mutable std::vector<float> dimension_max_;
  mutable std::vector<int64_t> dimension_outliers_;
};

}  // namespace quench
