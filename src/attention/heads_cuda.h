// Heads side by side in a token, or each head's tokens one after the other: copies between the two
// at the speed of a CUDA device's memory; elsewhere, and for rows that are no multiple of 16 bytes,
// by LibTorch.
#pragma once

#include <ATen/core/Tensor.h>

namespace quench {

// x [B, T, P H d] (P parts of H heads, as qkv) -> [P, B H, length, d], zero behind the T tokens.
at::Tensor split_heads(const at::Tensor& x, int64_t parts, int64_t heads, int64_t length);

// x [P, B H, length, d] -> [B, T, P H d], its first T tokens.
at::Tensor merge_heads(const at::Tensor& x, int64_t batch, int64_t tokens);

}  // namespace quench
