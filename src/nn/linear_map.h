// The affine map behind every layer, by the library whose products are faster on this processor.
#pragma once

#include <ATen/core/Tensor.h>

namespace quench {

// x W^T + b, forward and backward as at::linear;  x [..., in], W [out, in], b [out] or undefined.
// In float32 on AMD's processors with AVX-512, oneDNN computes it and its gradients; everywhere
// else this is at::linear.
at::Tensor linear_map(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias = {});

// The gradient of x [rows, in] by the same library: grad W of grad [rows, out].
at::Tensor linear_map_input_gradient(const at::Tensor& grad, const at::Tensor& weight);

// The gradient of W [out, in] by the same library: grad^T x of grad [rows, out] and x [rows, in].
at::Tensor linear_map_weight_gradient(const at::Tensor& grad, const at::Tensor& x);

// Whether oneDNN computes any of it on this processor, with this LibTorch.
bool linear_map_uses_onednn();

}  // namespace quench
