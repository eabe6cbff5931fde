#include "nn/norm.h"

#include <ATen/ATen.h>

#include "base/error.h"

namespace quench {

NormKind norm_kind(const std::string& name) {
  check(name == "layer" || name == "rms" || name == "rms_scalar", "no norm '", name, "'");
  return name == "layer" ? NormKind::kLayer : name == "rms" ? NormKind::kRms : NormKind::kRmsScalar;
}

at::Tensor Norm::operator()(const at::Tensor& x, const Taps& taps) const {
  const at::Tensor gain = tapped(*weight, taps);
  if (options.kind == NormKind::kLayer)
    return at::layer_norm(x, weight->value.sizes(), gain, bias->value, options.eps);
  // Under autocast x may be narrower than the gain, which no kernel takes.
  const at::Tensor wide = x.to(at::promote_types(x.scalar_type(), gain.scalar_type()));
  return at::rms_norm(wide, {x.size(-1)}, gain.expand({x.size(-1)}), options.eps);
}

Norm add_norm(Parameters& parameters, const std::string& name, int64_t size,
              const NormOptions& options) {
  const int64_t gains = options.kind == NormKind::kRmsScalar ? 1 : size;
  Norm norm{&parameters.add(name + ".weight", {gains}, Init::constant(1), Role::kNorm), nullptr,
            options};
  if (options.kind == NormKind::kLayer)
    norm.bias = &parameters.add(name + ".bias", {size}, Init::constant(0), Role::kBias);
  return norm;
}

}  // namespace quench
