// The sums behind TensorStatistics on a device that is not the CPU: nothing here waits for it.
#pragma once

#include <ATen/core/Tensor.h>

namespace quench {

// Of each row, float64 [R].
struct RowMoments {
  at::Tensor mean;
  at::Tensor central2;  // sum of (x - mean)^2
  at::Tensor kurtosis;  // as statistics.h defines it
  at::Tensor max_abs;   // NaN where the row holds one
};

// rows [R, N], contiguous: float32, float16 or bfloat16. By a kernel that reads them once, or by
// row_moments_composed().
RowMoments row_moments(const at::Tensor& rows);

// Raises `max_abs` [D] (float32) to the largest |x| of each dimension of x [V, D], NaN left out,
// and adds to `outliers` [D] (int64) how many |x - mean| are above `limit` (both float64, 0-dim).
void add_dimensions(const at::Tensor& x, const at::Tensor& mean, const at::Tensor& limit,
                    at::Tensor& max_abs, at::Tensor& outliers);

// The same by elementary tensor operations, on any device.
RowMoments row_moments_composed(const at::Tensor& rows);
void add_dimensions_composed(const at::Tensor& x, const at::Tensor& mean, const at::Tensor& limit,
                             at::Tensor& max_abs, at::Tensor& outliers);

}  // namespace quench
