// Percentiles as numpy computes them (method "linear").
#pragma once

#include <ATen/core/Tensor.h>

namespace quench {

// For each of `percents` (0..100) that percentile of all values of `x`: with n values in ascending
// order v, the point (n - 1) * percent / 100 of the line through (i, v[i]), interpolated in float64
// between float32 values. [percents.size()], float64, on the device of `x`; reads no number of
// another device. `x` must hold a value, and no NaN.
at::Tensor percentiles(const at::Tensor& x, at::ArrayRef<double> percents);

// The same by elementary ATen operations: the path of a device that is not the CPU.
at::Tensor percentiles_composed(const at::Tensor& x, at::ArrayRef<double> percents);

}  // namespace quench
