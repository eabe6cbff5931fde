// Attention = mask x normalizer x gate. query and key -> norm -> scores -> cap -> mask ->
// normalizer
// -> dropout -> context -> gate -> output layer. The normalizer and the gate are independent; any
// pair works in every model. The composite path defines the result. With nothing listening inside,
// a fused kernel computes the same where there is one for the normalizer, or the composite path a
// block of queries at a time.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "attention/gate.h"
#include "attention/mask.h"
#include "attention/normalizers/softmax.h"
#include "attention/query_key_norm.h"
#include "nn/dropout.h"
#include "nn/layers.h"

namespace quench {

// The `attention` section of a config.
struct AttentionConfig {
  std::shared_ptr<Normalizer> softmax = std::make_shared<Softmax>();
  std::shared_ptr<Gate> gate = gates().entries.front().make();
  std::string query_key_norm = "none";  // none | rms | layer
  std::optional<double> scores_cap;     // x -> cap tanh(x / cap), before the mask
};
void describe(config::Fields& fields, AttentionConfig& config);

struct AttentionShape {
  int64_t hidden_size = 0;
  int64_t heads = 0;
  int64_t max_seq_length = 0;
  double dropout = 0;
};

// Parameter names of one attention block and how its projections are initialised.
struct AttentionNames {
  std::string query, key, value, output;
  std::string module;  // "<attention module>", of a gate and of a normalizer
  Init weight, bias;   // query, key, value
  Init output_weight, output_bias;
};

class Attention {
 public:
  Attention(Parameters& parameters, const AttentionConfig& config, const AttentionShape& shape,
            const AttentionNames& names, std::string scope);

  // x [B, T, D] -> [B, T, D], before dropout and the residual sum; with `rows` (select_rows())
  // only those, [N, D].
  at::Tensor operator()(const at::Tensor& x, const AttentionMask& mask, const Taps& taps,
                        DropoutStream& stream, const at::Tensor& rows = {}) const;

 private:
  at::Tensor project(const at::Tensor& x, const Taps& taps) const;
  at::Tensor gated(const at::Tensor& y, const at::Tensor& x, const at::Tensor& value,
                   const Taps& taps) const;
  at::Tensor context(const at::Tensor& qkv, const AttentionMask& mask, const Taps& taps,
                     DropoutStream& stream) const;
  at::Tensor composite(const at::Tensor& qkv, const AttentionMask& mask, const Taps& taps,
                       DropoutStream& stream) const;

  AttentionConfig config_;
  AttentionShape shape_;
  std::string scope_;  // "layers.N.attention."
  Linear qkv_, output_;
  QueryKeyNorm norm_;
  NormalizerLayer normalizer_;
  GateLogits gate_logits_;
};

}  // namespace quench
