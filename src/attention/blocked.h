// Attention by its definition, for any normalizer, dtype and device, in plain tensor operations:
// at once, which keeps several T x T tensors for the backward pass, or a block of queries at a
// time, formed again in the backward pass: memory O(block x T).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "attention/mask.h"
#include "attention/normalizer.h"
#include "nn/dropout.h"

namespace quench {

struct AttentionOptions {
  NormalizerLayer normalizer;
  std::optional<double> scores_cap = {};
  int64_t heads = 1;
  double dropout = 0;  // of the probabilities
  DropoutSite site = {};
  bool training = false;
};

// cap tanh(scores / cap); the scores where there is no cap.
at::Tensor capped(const at::Tensor& scores, const std::optional<double>& cap);

// Query rows whose scores are to be formed at a time, of qkv [B, T, 3 D]; none: they are few enough
// to be kept for the backward pass, all at once.
std::optional<int64_t> attention_block_rows(const at::Tensor& qkv, int64_t heads);

// qkv [B, T, 3 D] (query, key, value along the last dimension; the query is scaled by d_head^-1/2
// here) -> context [B, T, D]. Keys that a causal mask hides from a whole block are left out: the
// normalizer must give a masked key the probability 0 wherever another key is seen.
at::Tensor blocked_attention(const at::Tensor& qkv, const AttentionMask& mask,
                             const AttentionOptions& options, int64_t block_rows);

}  // namespace quench
