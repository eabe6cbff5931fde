#include "attention/normalizer.h"

#include <ATen/ATen.h>

#include "attention/normalizers/normalizers.h"
#include "attention/normalizers/softmax.h"

namespace quench {

const config::Registry<Normalizer>& normalizers() {
  static const config::Registry<Normalizer> registry{{
      {"softmax", "the plain softmax", [] { return std::make_shared<Softmax>(); }},
      {"clipped", "clip((zeta - gamma) softmax(x) + gamma, 0, 1)",
       [] { return std::make_shared<ClippedSoftmax>(); }},
      {"normalized_clipped", "clipped, stretched by the number of visible keys",
       make_normalized_clipped},
      {"softmax1", "e^x / (1 + sum e^x)", make_softmax1},
      {"sink", "e^x / (e^s + sum e^x), s learned, one a head", make_sink},
      {"key_bias", "a learned key beside those of the sequence", make_key_bias},
      {"softpick", "relu(e^x - 1) / sum |e^x - 1|", make_softpick},
      {"sigmoid", "sigmoid(x + bias)", make_sigmoid},
      {"relu", "relu(x) / visible keys", make_relu},
      {"top_k", "softmax over the k largest scores", make_top_k},
      {"threshold", "softmax over the keys above a threshold that each head learns",
       make_threshold},
      {"sparsemax", "the nearest point of the simplex: exact zeros", make_sparsemax},
      {"entmax15", "1.5-entmax, between softmax and sparsemax", make_entmax15},
  }};
  return registry;
}

at::Tensor NormalizerLayer::operator()(const MaskedScores& scores, const Taps& taps) const {
  return formula(scores, taps).to(scores.values.scalar_type());
}

at::Tensor with_rest(const at::Tensor& context, const at::Tensor& probs,
                     const NormalizerLayer& layer, const Taps& taps) {
  if (layer.rest == nullptr) return context;
  const at::Tensor rest = 1 - probs.sum(-1, /*keepdim=*/true);
  return context + rest * tapped(*layer.rest, taps).unsqueeze(1).to(context.scalar_type());
}

at::Tensor widened(const at::Tensor& scores) {
  const bool half = scores.scalar_type() == at::kHalf || scores.scalar_type() == at::kBFloat16;
  return half ? scores.to(at::kFloat) : scores;
}

at::Tensor where_seen(const at::Tensor& x, const MaskedScores& scores) {
  const at::Tensor seen = scores.seen();
  return seen.defined() ? x.masked_fill(seen.logical_not(), 0) : x;
}

at::Tensor seen_keys(const MaskedScores& scores, const at::Tensor& like) {
  const at::Tensor seen = scores.seen();
  if (!seen.defined()) return at::full({1}, scores.values.size(-1), like.options());
  return seen.sum(-1, /*keepdim=*/true).clamp_min(1).to(like.scalar_type());
}

}  // namespace quench
