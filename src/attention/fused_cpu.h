// Fused attention for float32 on CPUs, without ever writing the T x T matrix to memory. A block of
// query rows is scored, normalised and multiplied with the values while it lies in the cache; the
// backward pass forms the block again.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/fused.h"

namespace quench {

bool fused_cpu_takes(const at::Tensor& qkv);

struct FusedGradients {
  at::Tensor qkv;
  at::Tensor parameter;  // [H], of the row function's; undefined: it has none
};

// As fused_attention() and its gradients, without a graph; all tensors contiguous.
at::Tensor fused_cpu_forward(const at::Tensor& qkv, const at::Tensor& key_mask,
                             const FusedAttentionOptions& options);
FusedGradients fused_cpu_backward(const at::Tensor& qkv, const at::Tensor& key_mask,
                                  const FusedAttentionOptions& options,
                                  const at::Tensor& grad_context);

}  // namespace quench
