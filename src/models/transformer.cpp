#include "models/transformer.h"

#include <ATen/ATen.h>

#include "base/error.h"

namespace quench {
namespace {

AttentionShape attention_shape(const LayerOptions& o) {
  return {o.hidden_size, o.heads, o.max_seq_length, o.attention_dropout};
}

}  // namespace

at::Tensor activate(const std::string& activation, const at::Tensor& x) {
  return activation == "relu" ? at::relu(x) : at::gelu(x);
}

TransformerLayer::TransformerLayer(Parameters& parameters, const LayerOptions& options,
                                   const AttentionConfig& attention, const LayerNames& names,
                                   int64_t index)
    : options_(options),
      scope_(concat("layers.", index, ".")),
      attention_(parameters, attention, attention_shape(options), names.attention,
                 scope_ + "attention."),
      attention_norm_(
          add_norm(parameters, names.attention_norm, options.hidden_size, options.norm)),
      output_norm_(add_norm(parameters, names.output_norm, options.hidden_size, options.norm)),
      intermediate_(add_linear(parameters, names.intermediate, options.hidden_size,
                               options.intermediate_size, options.weight, options.bias)),
      output_(add_linear(parameters, names.output, options.intermediate_size, options.hidden_size,
                         options.weight, options.bias)) {
  if (!options.sandwich_norm) return;
  attention_branch_norm_ =
      add_norm(parameters, names.attention_branch_norm, options.hidden_size, options.norm);
  output_branch_norm_ =
      add_norm(parameters, names.output_branch_norm, options.hidden_size, options.norm);
}

at::Tensor TransformerLayer::branch_norm(const Norm& norm, const char* point,
                                         const at::Tensor& branch, const Taps& taps) const {
  return norm.weight ? taps(scope_, point, norm(branch, taps)) : branch;
}

at::Tensor TransformerLayer::add_residual(const at::Tensor& branch, const at::Tensor& residual,
                                          const RowPlace& place, ForwardContext& context) const {
  if (options_.drop_path > 0 && context.stream.training())
    return residual + drop_path(dropout(branch, options_.hidden_dropout, context.stream),
                                options_.drop_path, context.stream);
  return dropout_add(branch, residual, options_.hidden_dropout, context.stream, place);
}

at::Tensor TransformerLayer::feed_forward(const at::Tensor& x, const Taps& taps) const {
  const at::Tensor inner =
      activate(options_.activation, taps(scope_, "ffn.pre_activation", intermediate_(x, taps)));
  return taps(scope_, "ffn.output", output_(taps(scope_, "ffn.intermediate", inner), taps));
}

at::Tensor TransformerLayer::operator()(const at::Tensor& input, const AttentionMask& mask,
                                        ForwardContext& context, const at::Tensor& rows) const {
  const Taps& taps = context.taps;
  const auto attention_norm = [&](const at::Tensor& x) {
    return taps(scope_, "attention.norm", attention_norm_(x, taps));
  };
  const auto output_norm = [&](const at::Tensor& x) {
    return taps(scope_, "ffn.norm", output_norm_(x, taps));
  };

  const at::Tensor attended =
      branch_norm(attention_branch_norm_, "attention.branch_norm",
                  attention_(options_.pre_norm ? attention_norm(input) : input, mask, taps,
                             context.stream, rows),
                  taps);
  const RowPlace place{0, input.size(1), input.size(2), rows};
  at::Tensor x = taps(scope_, "attention.residual",
                      add_residual(attended, select_rows(input, rows), place, context));
  if (!options_.pre_norm) x = attention_norm(x);

  const at::Tensor fed =
      branch_norm(output_branch_norm_, "ffn.branch_norm",
                  feed_forward(options_.pre_norm ? output_norm(x) : x, taps), taps);
  x = taps(scope_, "ffn.residual", add_residual(fed, x, place, context));
  if (!options_.pre_norm) x = output_norm(x);
  return taps(scope_, "output", x);
}

at::Tensor run_layers(const std::vector<TransformerLayer>& layers, const at::Tensor& input,
                      const AttentionMask& mask, ForwardContext& context, const at::Tensor& rows) {
  const bool whole = context.taps.listening();  // a listener sees every position
  at::Tensor x = input;
  for (const TransformerLayer& layer : layers)
    x = layer(x, mask, context, &layer == &layers.back() && !whole ? rows : at::Tensor());
  return whole ? select_rows(x, rows) : x;
}

}  // namespace quench
