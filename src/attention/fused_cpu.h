// Fused attention for float32 on CPUs: softmax or clipped softmax, dropout, forward and backward,
// without ever writing the T x T matrix to memory. A block of query rows is scored, normalised and
// multiplied with the values while it lies in the cache; the backward pass forms the block again.
#pragma once

#include <ATen/core/Tensor.h>

#include "attention/normalizer.h"

namespace quench {

struct FusedAttentionOptions {
  int64_t heads = 1;
  bool causal = false;
  Stretch stretch;
  double dropout = 0;  // of the probabilities, after clipping
  uint64_t dropout_key = 0;
};

// qkv [B, T, 3 D] (query, key, value along the last dimension; the query is scaled by d_head^-1/2
// here), key_mask bool [B, T] (true = attend) or undefined -> context [B, T, D]. Equals the
// composite path in attention.cpp.
at::Tensor fused_attention(const at::Tensor& qkv, const at::Tensor& key_mask,
                           const FusedAttentionOptions& options);

}  // namespace quench
