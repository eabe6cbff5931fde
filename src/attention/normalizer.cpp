#include "attention/normalizer.h"

#include <ATen/ATen.h>

#include "attention/normalizers/softmax.h"

namespace quench {

const config::Registry<Normalizer>& normalizers() {
  static const config::Registry<Normalizer> registry{{
      {"softmax", "the plain softmax", [] { return std::make_shared<Softmax>(); }},
      {"clipped", "clip((zeta - gamma) softmax(x) + gamma, 0, 1)",
       [] { return std::make_shared<ClippedSoftmax>(); }},
  }};
  return registry;
}

at::Tensor widened(const at::Tensor& scores) {
  const bool half = scores.scalar_type() == at::kHalf || scores.scalar_type() == at::kBFloat16;
  return half ? scores.to(at::kFloat) : scores;
}

}  // namespace quench
