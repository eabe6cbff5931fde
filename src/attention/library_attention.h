// LibTorch's own fused attention on a GPU, for the plain softmax without dropout: its masks of
// dropout are its own.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/mask.h"

namespace quench {

// Whether it is to compute attention over qkv [B, T, 3 D]: on a CUDA device, with a mask that it
// knows, and, where gradients are wanted, with a kernel that can repeat them.
bool library_attention_takes(const at::Tensor& qkv, int64_t heads, const AttentionMask& mask);

// -> context [B, T, D]. The same inputs give the same gradients, bit for bit.
at::Tensor library_attention(const at::Tensor& qkv, int64_t heads, const AttentionMask& mask);

}  // namespace quench
