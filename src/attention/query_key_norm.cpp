#include "attention/query_key_norm.h"

#include <ATen/ATen.h>

namespace quench {
namespace {

constexpr double kEps = 1e-6;

LayerNorm add_norm(Parameters& parameters, const std::string& type, const std::string& name,
                   int64_t size) {
  if (type == "layer") return add_layer_norm(parameters, name, size, kEps);
  return {&parameters.add(name + ".weight", {size}, Init::constant(1), Role::kNorm), nullptr, kEps};
}

}  // namespace

QueryKeyNorm::QueryKeyNorm(Parameters& parameters, const std::string& type,
                           const std::string& module, int64_t head_size) {
  if (type == "none") return;
  query_ = add_norm(parameters, type, module + ".query_norm", head_size);
  key_ = add_norm(parameters, type, module + ".key_norm", head_size);
}

at::Tensor QueryKeyNorm::apply(const LayerNorm& norm, const at::Tensor& x, const Taps& taps) const {
  if (!active()) return x;
  const at::Tensor by_head = x.unflatten(-1, {-1, norm.weight->value.size(0)});
  if (norm.bias) return norm(by_head, taps).flatten(-2);
  return at::rms_norm(by_head, norm.weight->value.sizes(), tapped(*norm.weight, taps), norm.eps)
      .flatten(-2);
}

}  // namespace quench
