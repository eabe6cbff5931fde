// LATTE (Nguyen et al. 2024), a threshold that each head learns: a key is kept if its probability
// is at least g times the row's largest, x_j >= max_k x_k - theta with theta = -ln g > 0, and the
// rest is normalised by a softmax. Training takes a soft edge instead,
//   w_j = sigmoid((x_j - max x + theta) / temperature),   p_j ~ e^{x_j} w_j,
// through which theta = softplus(r) learns. The paper does not
// print its surrogate: this one is ours.
//
// With `low_precision` the edge is found, outside training, from estimated scores: query and key in
// 8 bits (symmetric, each vector with its own scale), of which the product takes the 4 highest.
#include <ATen/ATen.h>

#include <cmath>

#include "attention/blocked.h"
#include "attention/normalizers/normalizers.h"
#include "attention/normalizers/softmax.h"

namespace quench {
namespace {

constexpr double kLow = -3e38;

// Vectors [..., d] in 8 bits, of which the 4 highest, as numbers: floor(q / 16) * 16 * scale.
at::Tensor highest_bits(const at::Tensor& x) {
  const at::Tensor scale = x.abs().amax(-1, /*keepdim=*/true).clamp_min(1e-30) / 127;
  return (x / scale).round().div(16, "floor") * (16 * scale);
}

at::Tensor estimated_scores(const MaskedScores& scores) {
  const at::Tensor products = at::matmul(highest_bits(widened(scores.query)),
                                         highest_bits(widened(scores.key)).transpose(-1, -2));
  return capped(products, scores.cap);
}

class Threshold : public Normalizer {
 public:
  double init = 0.01, temperature = 0.5, density = 0;
  bool low_precision = false;

  std::string type() const override { return "threshold"; }
  void describe(config::Fields& fields) override {
    fields("init", init, "g of a fresh head: keys below g times the row's largest are dropped",
           config::between(1e-9, 0.999));
    fields("temperature", temperature, "width of the soft edge in training, in scores",
           config::greater_than(0));
    fields("density_weight", density, "of the mean share of keys kept, in the loss",
           config::at_least(0));
    fields("low_precision", low_precision,
           "outside training the edge is found from 4-bit products");
  }
  double density_weight() const override { return density; }

  NormalizerLayer add(Parameters& parameters, const NormalizerShape& shape) const override {
    const double theta = -std::log(init);
    Parameter* r = &parameters.add(shape.module + ".threshold", {shape.heads},
                                   Init::constant(std::log(std::expm1(theta))), Role::kToken);
    NormalizerLayer layer;
    layer.parameters = {r};
    layer.formula = [r, scope = shape.scope, own = *this](const MaskedScores& scores,
                                                          const Taps& taps) {
      const at::Tensor x = widened(scores.values);
      const at::Tensor edge = at::softplus(tapped(*r, taps)).view({1, -1, 1, 1});
      const at::Tensor kept = own.kept(x, edge, scores);
      taps(scope, "density", kept.sum(-1, /*keepdim=*/true) / seen_keys(scores, x));
      const at::Tensor p = at::softmax(x, -1) * kept;
      return where_seen(p / p.sum(-1, /*keepdim=*/true).clamp_min(1e-30), scores);
    };
    return layer;
  }

 private:
  // Of each key, 0 to 1; 0 where it may not be seen.
  at::Tensor kept(const at::Tensor& x, const at::Tensor& theta, const MaskedScores& scores) const {
    const auto above = [&](const at::Tensor& s) {
      return s - s.amax(-1, /*keepdim=*/true) + theta;
    };
    if (scores.training) return where_seen(at::sigmoid(above(x) / temperature), scores);
    at::Tensor s = x;
    if (low_precision) {
      const at::Tensor seen = scores.seen();
      s = estimated_scores(scores);
      if (seen.defined()) s = s.masked_fill(seen.logical_not(), kLow);
    }
    return where_seen((above(s) >= 0).to(x.scalar_type()), scores);
  }
};

}  // namespace

std::shared_ptr<Normalizer> make_threshold() { return std::make_shared<Threshold>(); }

}  // namespace quench
