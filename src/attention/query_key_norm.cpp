#include "attention/query_key_norm.h"

#include <ATen/ATen.h>

namespace quench {
QueryKeyNorm::QueryKeyNorm(Parameters& parameters, const std::string& type,
                           const std::string& module, int64_t head_size) {
  if (type == "none") return;
  const NormOptions options{norm_kind(type), 1e-6};
  query_ = add_norm(parameters, module + ".query_norm", head_size, options);
  key_ = add_norm(parameters, module + ".key_norm", head_size, options);
}

at::Tensor QueryKeyNorm::apply(const Norm& norm, const at::Tensor& x, const Taps& taps) const {
  if (!active()) return x;
  return norm(x.unflatten(-1, {-1, norm.weight->value.size(0)}), taps).flatten(-2);
}

}  // namespace quench
