// Percentiles as numpy computes them (method "linear").
#pragma once

#include <ATen/core/Tensor.h>

namespace quench {

// The `percent`-th (0..100) percentile of all values of `x`: with n values in ascending order v,
// the point (n - 1) * percent / 100 of the line through (i, v[i]), interpolated in float64 between
// float32 values. `x` must hold a value, and no NaN.
double percentile(const at::Tensor& x, double percent);

}  // namespace quench
