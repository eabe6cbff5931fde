// Sparsemax (Martins, Astudillo 2016) and 1.5-entmax (Peters et al. 2019): rows that sum to 1 with
// exact zeros, y = max(z - tau, 0)^p, where z = x and p = 1, or z = x / 2 and p = 2. tau follows in
// closed form from the keys that get anything, the largest of the row; which they are counts as
// constant in the backward pass.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "attention/normalizers/normalizers.h"

namespace quench {
namespace {

// tau of the k largest of a sorted row for every k, from the sums of these and of their squares.
using Threshold = at::Tensor (*)(const at::Tensor& k, const at::Tensor& sum,
                                 const at::Tensor& squares);

at::Tensor sparsemax_threshold(const at::Tensor& k, const at::Tensor& sum, const at::Tensor&) {
  return (sum - 1) / k;
}

at::Tensor entmax_threshold(const at::Tensor& k, const at::Tensor& sum, const at::Tensor& squares) {
  const at::Tensor mean = sum / k, spread = squares - sum * mean;
  return mean - at::clamp_min((1 - spread) / k, 0).sqrt();
}

// max(z - tau, 0). Below -1 under the row's largest nothing gets anything: there scores are cut,
// masked ones first.
at::Tensor above_threshold(const at::Tensor& scores, Threshold threshold) {
  const at::Tensor z = (scores - scores.detach().amax(-1, /*keepdim=*/true)).clamp_min(-2);
  at::Tensor support;
  {
    const at::NoGradGuard no_grad;
    const at::Tensor sorted = std::get<0>(at::sort(z, -1, /*descending=*/true));
    const at::Tensor k = at::arange(1, z.size(-1) + 1, z.options());
    const at::Tensor tau = threshold(k, sorted.cumsum(-1), sorted.square().cumsum(-1));
    const at::Tensor count = (sorted > tau).sum(-1, /*keepdim=*/true).clamp_min(1);
    support = z >= sorted.gather(-1, count - 1);
  }
  const at::Tensor kept = z.masked_fill(support.logical_not(), 0),
                   k = support.sum(-1, /*keepdim=*/true).to(z.scalar_type());
  const at::Tensor tau =
      threshold(k, kept.sum(-1, /*keepdim=*/true), kept.square().sum(-1, /*keepdim=*/true));
  return (z - tau).masked_fill(support.logical_not(), 0).clamp_min(0);
}

class Sparsemax : public Normalizer {
 public:
  std::string type() const override { return "sparsemax"; }
  void describe(config::Fields&) override {}
  NormalizerLayer add(Parameters&, const NormalizerShape&) const override {
    return {[](const MaskedScores& scores, const Taps&) {
      return where_seen(above_threshold(widened(scores.values), sparsemax_threshold), scores);
    }};
  }
};

class Entmax15 : public Normalizer {
 public:
  std::string type() const override { return "entmax15"; }
  void describe(config::Fields&) override {}
  NormalizerLayer add(Parameters&, const NormalizerShape&) const override {
    return {[](const MaskedScores& scores, const Taps&) {
      return where_seen(above_threshold(widened(scores.values) / 2, entmax_threshold).square(),
                        scores);
    }};
  }
};

}  // namespace

std::shared_ptr<Normalizer> make_sparsemax() { return std::make_shared<Sparsemax>(); }
std::shared_ptr<Normalizer> make_entmax15() { return std::make_shared<Entmax15>(); }

}  // namespace quench
