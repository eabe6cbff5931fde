// Fused attention on CUDA devices. The products are LibTorch's; what lies between them is one pass
// over a block of scores, in place, where tensor operations make ten. A block of queries at a time,
// formed again in the backward pass.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/fused.h"

namespace quench {

// Whether there are kernels for qkv [B, T, 3 D]: float32, float16 or bfloat16 on a CUDA device, at
// most 8192 tokens.
bool fused_cuda_takes(const at::Tensor& qkv);

// qkv by heads, as the two below take it: [3, B H, length, d], T filled up to a length that
// products like.
at::Tensor fused_cuda_heads(const at::Tensor& qkv, int64_t heads);

// As fused_attention() and its gradient, without a graph; of `tokens` tokens. Softmax and sums in
// float32, scores and probabilities in the dtype of qkv.
at::Tensor fused_cuda_forward(const at::Tensor& parts, int64_t tokens, const at::Tensor& key_mask,
                              const FusedAttentionOptions& options);
at::Tensor fused_cuda_backward(const at::Tensor& parts, const at::Tensor& key_mask,
                               const FusedAttentionOptions& options,
                               const at::Tensor& grad_context);

}  // namespace quench
