// Fused attention: scores, a normalizer's row function, dropout and context, forward and backward,
// by a device's own kernels.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>

#include "attention/row_function.h"
#include "nn/dropout.h"

namespace quench {

struct FusedAttentionOptions {
  int64_t heads = 1;
  bool causal = false;
  std::shared_ptr<const RowFunction> row;
  double dropout = 0;  // of the probabilities
  DropoutSite site = {};
};

// Whether there are kernels for qkv, by its device and dtype, and for that normalizer.
bool fused_attention_takes(const at::Tensor& qkv, const RowFunction& row);

// qkv [B, T, 3 D] (query, key, value along the last dimension; the query is scaled by d_head^-1/2
// here), key_mask bool [B, T] (true = attend) or undefined -> context [B, T, D]. Equals the
// composite path in attention.cpp.
at::Tensor fused_attention(const at::Tensor& qkv, const at::Tensor& key_mask,
                           const FusedAttentionOptions& options);

}  // namespace quench
