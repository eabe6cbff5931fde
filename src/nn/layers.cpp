#include "nn/layers.h"

#include <ATen/ATen.h>

#include "nn/linear_map.h"

namespace quench {

at::Tensor Linear::operator()(const at::Tensor& x, const Taps& taps) const {
  const at::Tensor b = bias ? bias->value : at::Tensor();
  // Quantized runs follow the last bits of the reference, whose products are LibTorch's own.
  return taps.replaces_weights() ? at::linear(x, tapped(*weight, taps), b)
                                 : linear_map(x, weight->value, b);
}

Linear add_linear(Parameters& parameters, const std::string& name, int64_t in, int64_t out,
                  Init weight, Init bias, bool has_bias, Role role) {
  Linear linear;
  linear.weight = &parameters.add(name + ".weight", {out, in}, weight, role);
  if (has_bias) linear.bias = &parameters.add(name + ".bias", {out}, bias, Role::kBias);
  return linear;
}

at::Tensor select_rows(const at::Tensor& x, const at::Tensor& rows) {
  return rows.defined() ? x.flatten(0, -2).index_select(0, rows) : x;
}

at::Tensor Embedding::operator()(const at::Tensor& ids, const Taps& taps) const {
  return at::embedding(tapped(*weight, taps), ids, padding_row, /*scale_grad_by_freq=*/false,
                       sparse_gradient && ids.is_cpu());  // selecting its rows makes a GPU wait
}

Embedding add_embedding(Parameters& parameters, const std::string& name, int64_t rows, int64_t size,
                        Init init, int64_t padding_row) {
  Embedding embedding{&parameters.add(name + ".weight", {rows, size}, init, Role::kEmbedding),
                      padding_row};
  embedding.weight->zero_row = padding_row;
  return embedding;
}

}  // namespace quench
