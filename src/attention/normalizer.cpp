#include "attention/normalizer.h"

#include <ATen/ATen.h>

namespace quench {
namespace {

// Half-precision scores are normalised in float32 and rounded once, at the end.
bool narrow(const at::Tensor& x) {
  return x.scalar_type() == at::kHalf || x.scalar_type() == at::kBFloat16;
}

at::Tensor softmax(const at::Tensor& scores) {
  return narrow(scores) ? at::softmax(scores, -1, at::kFloat) : at::softmax(scores, -1);
}

}  // namespace

at::Tensor Softmax::operator()(const at::Tensor& scores, int64_t) const {
  return softmax(scores).to(scores.scalar_type());
}

void ClippedSoftmax::describe(config::Fields& fields) {
  fields("gamma", gamma, "lower end of the stretch, <= 0; default -0.025",
         config::between(-1e6, 0));
  fields("zeta", zeta, "upper end of the stretch, >= 1; default 1", config::at_least(1));
  fields("alpha", alpha, "sets gamma = -alpha / max_seq_length and zeta = 1", config::at_least(0));
  fields.require(!alpha || (!gamma && !zeta), "alpha",
                 "excludes gamma and zeta: give either alpha or those two");
}

std::optional<Stretch> ClippedSoftmax::stretch(int64_t max_seq_length) const {
  if (alpha) return Stretch{-*alpha / static_cast<double>(max_seq_length), 1};
  return Stretch{gamma.value_or(zeta ? 0 : -0.025), zeta.value_or(1)};
}

at::Tensor ClippedSoftmax::operator()(const at::Tensor& scores, int64_t max_seq_length) const {
  return stretch_and_clip(softmax(scores), *stretch(max_seq_length)).to(scores.scalar_type());
}

const config::Registry<Normalizer>& normalizers() {
  static const config::Registry<Normalizer> registry{{
      {"softmax", "the plain softmax", [] { return std::make_shared<Softmax>(); }},
      {"clipped", "clip((zeta - gamma) softmax(x) + gamma, 0, 1)",
       [] { return std::make_shared<ClippedSoftmax>(); }},
  }};
  return registry;
}

at::Tensor stretch_and_clip(const at::Tensor& probabilities, const Stretch& stretch) {
  return at::clamp(probabilities * (stretch.zeta - stretch.gamma) + stretch.gamma, 0, 1);
}

}  // namespace quench
