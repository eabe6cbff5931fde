// Simulated uniform affine quantization (Krishnamoorthi 2018, arXiv:1806.08342):
//
//   q = clamp(round(x / scale) + zero_point, int_min, int_max),   x^ = scale * (q - zero_point)
//
// round is half to even and x / scale a true division, so that results repeat those of the
// outlier-free-transformers reference bit for bit. The range always contains 0.
//   asymmetric: grid 0 .. 2^b - 1, scale = (max - min) / (2^b - 1)
//   symmetric:  zero_point 0, scale = max(|min|, max) / int_max; the grid is signed
//               (-2^(b-1) .. 2^(b-1) - 1) only where some value is negative, else 0 .. 2^b - 1
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace quench {

// Both [] (per tensor) or [C] (one range for each index of dimension 0); float32 or float64.
struct Range {
  at::Tensor min, max;
};

// Tensors, so that a grid can be made and used on a device without waiting for its numbers.
struct Affine {
  at::Tensor scale, zero_point;  // shape, dtype and device of the range
  at::Tensor int_min, int_max;   // []

  bool is_signed() const { return int_min.item<double>() < 0; }
};

// The grid of 2 or more `bits` for a range, which need not contain 0 yet. Reads no number.
Affine affine_from_range(const Range& range, int64_t bits, bool symmetric);

// x^ in the shape, dtype and device of `x`, without a gradient. Computed in float32, in float64
// only for a float64 `x`. NaN stays NaN, infinities go to the ends of the grid. Throws Error where
// a per-channel `affine` does not fit dimension 0 of `x`.
at::Tensor fake_quantize(const at::Tensor& x, const Affine& affine);

// The same by elementary ATen operations: the definition, and the path of what the single-pass loop
// of `fake_quantize` (dense float32 on the CPU) does not take. Reads no number where `affine` is on
// the device of `x`.
at::Tensor fake_quantize_composed(const at::Tensor& x, const Affine& affine);

}  // namespace quench
