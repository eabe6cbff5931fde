#include "train/activation_penalty.h"

#include <ATen/ATen.h>

namespace quench {

bool ActivationPenalty::wants(const std::string& name) const {
  return name.ends_with(".ffn.output");
}

at::Tensor ActivationPenalty::activation(const std::string&, const at::Tensor& x) {
  const at::Tensor mean_square =
      x.to(at::promote_types(x.scalar_type(), at::kFloat)).square().mean();
  sum_ = sum_.defined() ? sum_ + mean_square : mean_square;
  return x;
}

at::Tensor ActivationPenalty::take() { return std::exchange(sum_, at::Tensor()); }

}  // namespace quench
