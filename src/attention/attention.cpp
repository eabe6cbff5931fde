#include "attention/attention.h"

#include <ATen/ATen.h>

#include <array>
#include <cmath>

#include "attention/blocked.h"
#include "attention/fused.h"
#include "attention/library_attention.h"

namespace quench {
namespace {

bool is_softmax(const RowFunction& row) { return row.stretch() && row.stretch()->identity(); }

}  // namespace

void describe(config::Fields& fields, AttentionConfig& config) {
  fields.variant("softmax", config.softmax, normalizers(), "from scores to probabilities");
  fields.variant("gate", config.gate, gates(), "factor of each head's context");
  fields("query_key_norm", config.query_key_norm, "normalises query and key of each head",
         config::one_of({"none", "rms", "layer"}));
  fields("scores_cap", config.scores_cap, "bounds the scores: cap * tanh(x / cap), before the mask",
         config::greater_than(0));
}

Attention::Attention(Parameters& parameters, const AttentionConfig& config,
                     const AttentionShape& shape, const AttentionNames& names, std::string scope)
    : config_(config), shape_(shape), scope_(std::move(scope)) {
  const int64_t d = shape.hidden_size;
  const auto stacked = [&](const std::string& suffix) {
    return std::vector<std::string>{names.query + suffix, names.key + suffix, names.value + suffix};
  };
  qkv_.weight = &parameters.add_stacked(stacked(".weight"), {d, d}, {3 * d, d}, names.weight);
  qkv_.bias = &parameters.add_stacked(stacked(".bias"), {d}, {3 * d}, names.bias, Role::kBias);
  norm_ = QueryKeyNorm(parameters, config.query_key_norm, names.module, d / shape.heads);
  normalizer_ = config.softmax->add(
      parameters, {names.module, shape.heads, d / shape.heads, shape.max_seq_length, scope_});
  gate_logits_ = config.gate->add(parameters, {names.module + ".alpha", d, shape.heads});
  output_ = add_linear(parameters, names.output, d, d, names.output_weight, names.output_bias);
}

at::Tensor Attention::operator()(const at::Tensor& x, const AttentionMask& mask, const Taps& taps,
                                 DropoutStream& stream, const at::Tensor& rows) const {
  at::Tensor qkv = project(x, taps);
  if (gate_logits_ && config_.gate->on_values()) {
    const std::vector<at::Tensor> parts = qkv.chunk(3, -1);
    qkv = at::cat({parts[0], parts[1], gated(parts[2], x, parts[2], taps)}, -1);
  }
  at::Tensor y = taps(scope_, "context", context(qkv, mask, taps, stream));
  if (gate_logits_ && !config_.gate->on_values())
    y = gated(y, x, qkv.narrow(-1, 2 * shape_.hidden_size, shape_.hidden_size), taps);
  return taps(scope_, "output", output_(taps(scope_, "gated", select_rows(y, rows)), taps));
}

// [B, T, 3 D]. Where weights are replaced, query, key and value are three products, as in the
// reference: a product three times as wide may be summed in another order.
at::Tensor Attention::project(const at::Tensor& x, const Taps& taps) const {
  const bool apart = taps.replaces_weights() || taps.wanted(scope_, "query") ||
                     taps.wanted(scope_, "key") || taps.wanted(scope_, "value");
  if (!apart && !norm_.active()) return qkv_(x, taps);
  if (!apart) {
    const std::vector<at::Tensor> parts = qkv_(x, taps).chunk(3, -1);
    return at::cat({norm_.query(parts[0], taps), norm_.key(parts[1], taps), parts[2]}, -1);
  }
  std::vector<at::Tensor> projected;
  for (size_t i = 0; i < 3; ++i) {
    const Parameter::Part& weight = qkv_.weight->parts[i];
    const at::Tensor w = taps.weight(weight.name, qkv_.weight->view(weight, qkv_.weight->value));
    const at::Tensor b = qkv_.bias->view(qkv_.bias->parts[i], qkv_.bias->value);
    at::Tensor y = at::linear(x, w, b);
    if (i == 0) y = norm_.query(y, taps);
    if (i == 1) y = norm_.key(y, taps);
    projected.push_back(taps(scope_, std::array{"query", "key", "value"}[i], y));
  }
  return at::cat(projected, -1);
}

// `y` [B, T, D] times the gate's values, which are tapped as [B, T, H] or [B, T, D].
at::Tensor Attention::gated(const at::Tensor& y, const at::Tensor& x, const at::Tensor& value,
                            const Taps& taps) const {
  const at::Tensor values = config_.gate->values(gate_logits_({x, value}, taps)).flatten(-2);
  const at::Tensor factor = taps(scope_, "gate", values).unflatten(-1, {shape_.heads, -1});
  return (y.unflatten(-1, {shape_.heads, -1}) * factor).flatten(-2);
}

at::Tensor Attention::context(const at::Tensor& qkv, const AttentionMask& mask, const Taps& taps,
                              DropoutStream& stream) const {
  const bool inner = taps.wanted(scope_, "scores") || taps.wanted(scope_, "probs") ||
                     taps.wanted(scope_, "density");
  const bool own_weights = taps.replaces_weights() && !normalizer_.parameters.empty();
  const bool whole = !inner && !own_weights;  // nothing looks inside, or replaces what is there
  const RowFunction* row = config_.scores_cap ? nullptr : normalizer_.row.get();  // no kernel caps
  const double p = stream.training() ? shape_.dropout : 0;
  if (whole && row && is_softmax(*row) && p == 0 &&
      library_attention_takes(qkv, shape_.heads, mask))
    return library_attention(qkv, shape_.heads, mask);
  if (whole && row && fused_attention_takes(qkv, *row))
    return fused_attention(
        qkv, mask.keys,
        {shape_.heads, mask.causal, normalizer_.row, p, p > 0 ? stream.next() : DropoutSite()});
  const std::optional<int64_t> block_rows = attention_block_rows(qkv, shape_.heads);
  if (!whole || !block_rows) return composite(qkv, mask, taps, stream);
  return blocked_attention(qkv, mask,
                           {normalizer_, config_.scores_cap, shape_.heads, p,
                            p > 0 ? stream.next() : DropoutSite(), stream.training()},
                           *block_rows);
}

at::Tensor Attention::composite(const at::Tensor& qkv, const AttentionMask& mask, const Taps& taps,
                                DropoutStream& stream) const {
  const at::Tensor heads =
      qkv.unflatten(-1, {3, shape_.heads, -1}).permute({2, 0, 3, 1, 4});  // [3, B, H, T, d]
  const double scale = 1 / std::sqrt(static_cast<double>(heads.size(-1)));
  const at::Tensor query = heads[0] * scale;
  const at::Tensor products = at::matmul(query, heads[1].transpose(-1, -2));
  const at::Tensor scores = taps(scope_, "scores", capped(products, config_.scores_cap));
  MaskedScores masked = mask_scores(scores, mask, 0, query);
  masked.key = heads[1];
  masked.cap = config_.scores_cap;
  masked.training = stream.training();
  const at::Tensor probs = taps(scope_, "probs", normalizer_(masked, taps));
  const at::Tensor context = at::matmul(dropout(probs, shape_.dropout, stream), heads[2]);
  return with_rest(context, probs, normalizer_, taps).transpose(1, 2).flatten(-2);
}

}  // namespace quench
