#include "attention/attention.h"

#include <ATen/ATen.h>

#include <cmath>
#include <limits>

#include "attention/fused_cpu.h"

namespace quench {
namespace {

double lowest(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return std::numeric_limits<double>::lowest();
    case at::kHalf:
      return -65504;
    case at::kBFloat16:
      return -3.3895313892515355e38;
    default:
      return std::numeric_limits<float>::lowest();
  }
}

}  // namespace

void describe(config::Fields& fields, AttentionConfig& config) {
  fields.variant("softmax", config.softmax, normalizers(), "from scores to probabilities");
  fields.variant("gate", config.gate, gates(), "factor of each head's context");
}

Attention::Attention(Parameters& parameters, const AttentionConfig& config, const AttentionShape& shape,
                     const AttentionNames& names, std::string scope)
    : config_(config), shape_(shape), scope_(std::move(scope)) {
  const int64_t d = shape.hidden_size;
  const auto stacked = [&](const std::string& suffix) {
    return std::vector<std::string>{names.query + suffix, names.key + suffix, names.value + suffix};
  };
  qkv_.weight = &parameters.add_stacked(stacked(".weight"), {d, d}, {3 * d, d}, names.weight);
  qkv_.bias = &parameters.add_stacked(stacked(".bias"), {d}, {3 * d}, names.bias);
  gate_logits_ = config.gate->add(parameters, {names.gate, d, shape.heads});
  output_ = add_linear(parameters, names.output, d, d, names.output_weight, names.output_bias);
}

at::Tensor Attention::operator()(const at::Tensor& x, const AttentionMask& mask, const Taps& taps,
                                 DropoutStream& stream) const {
  at::Tensor y = taps(scope_, "context", context(qkv_(x, taps), mask, taps, stream));
  if (gate_logits_) {
    const at::Tensor gate = taps(scope_, "gate", config_.gate->values(gate_logits_(x, taps)));
    y = (y.unflatten(-1, {shape_.heads, -1}) * gate.unsqueeze(-1)).flatten(-2);
  }
  return taps(scope_, "output", output_(taps(scope_, "gated", y), taps));
}

at::Tensor Attention::context(const at::Tensor& projected, const AttentionMask& mask, const Taps& taps,
                              DropoutStream& stream) const {
  at::Tensor qkv = projected;
  if (taps.listening()) {
    const auto parts = projected.chunk(3, -1);
    qkv = at::cat({taps(scope_, "query", parts[0]), taps(scope_, "key", parts[1]), taps(scope_, "value", parts[2])}, -1);
  }
  const bool inner = taps.wanted(scope_, "scores") || taps.wanted(scope_, "probs");
  const std::optional<Stretch> stretch = config_.softmax->stretch(shape_.max_seq_length);
  if (inner || !stretch) return composite(qkv, mask, taps, stream);
  const double p = stream.training() ? shape_.dropout : 0;
  if (qkv.is_cpu() && qkv.scalar_type() == at::kFloat)
    return fused_attention(qkv, mask.keys,
                           {shape_.heads, mask.causal, *stretch, p, p > 0 ? stream.next() : 0});
  // LibTorch's own fused attention, which knows the plain softmax only.
  const bool plain_mask = !mask.keys.defined() || !mask.causal;
  if (!stretch->identity() || qkv.is_cpu() || !plain_mask) return composite(qkv, mask, taps, stream);
  if (p > 0) seed_device(qkv.device(), stream.next());
  const at::Tensor heads = qkv.unflatten(-1, {3, shape_.heads, -1}).permute({2, 0, 3, 1, 4});  // [3, B, H, T, d]
  const std::optional<at::Tensor> keys =
      mask.keys.defined() ? std::optional(mask.keys.unsqueeze(1).unsqueeze(1)) : std::nullopt;
  return at::scaled_dot_product_attention(heads[0], heads[1], heads[2], keys, p, mask.causal)
      .transpose(1, 2)
      .flatten(-2);
}

at::Tensor Attention::composite(const at::Tensor& qkv, const AttentionMask& mask, const Taps& taps,
                                DropoutStream& stream) const {
  const at::Tensor heads = qkv.unflatten(-1, {3, shape_.heads, -1}).permute({2, 0, 3, 1, 4});  // [3, B, H, T, d]
  const double scale = 1 / std::sqrt(static_cast<double>(heads.size(-1)));
  at::Tensor scores = taps(scope_, "scores", at::matmul(heads[0] * scale, heads[1].transpose(-1, -2)));
  const at::Tensor probs = taps(scope_, "probs", (*config_.softmax)(mask_scores(scores, mask), shape_.max_seq_length));
  return at::matmul(dropout(probs, shape_.dropout, stream), heads[2]).transpose(1, 2).flatten(-2);
}

at::Tensor mask_scores(const at::Tensor& scores, const AttentionMask& mask) {
  if (!mask.keys.defined() && !mask.causal) return scores;
  const double low = lowest(scores.scalar_type());
  at::Tensor additive;
  if (mask.keys.defined()) additive = mask.keys.logical_not().unsqueeze(1).unsqueeze(1).to(scores.scalar_type()) * low;
  if (!mask.causal) return scores + additive;
  const int64_t length = scores.size(-1);
  const at::Tensor future = at::full({length, length}, low, scores.options()).triu(1);
  additive = additive.defined() ? additive + future : future;  // -inf where both apply
  return at::maximum(scores + additive, at::full({}, low, scores.options()));
}

}  // namespace quench
