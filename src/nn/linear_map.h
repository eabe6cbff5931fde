// The affine map behind every layer, by the library whose products are faster on this processor.
#pragma once

#include <ATen/core/Tensor.h>

namespace quench {

// x W^T + b, forward and backward as at::linear;  x [..., in], W [out, in], b [out] or undefined.
// In float32 on AMD's processors with AVX-512, oneDNN computes it and the gradient of x, and
// LibTorch's BLAS the gradient of W; everywhere else this is at::linear.
at::Tensor linear_map(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {});

// Whether oneDNN computes any of it on this processor, with this LibTorch.
bool linear_map_uses_onednn();

}  // namespace quench
