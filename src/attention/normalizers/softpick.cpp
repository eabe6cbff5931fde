// Softpick (Zuhri et al. 2025): y_j = relu(e^{x_j} - 1) / (sum_k |e^{x_k} - 1| + eps) over the keys
// that are seen. A key with a score below 0 gets nothing, but counts in the sum.
#include <ATen/ATen.h>

#include "attention/normalizers/normalizers.h"

namespace quench {
namespace {

class Softpick : public Normalizer {
 public:
  double eps = 1e-8;

  std::string type() const override { return "softpick"; }
  void describe(config::Fields& fields) override {
    fields("eps", eps, "added to the sum", config::greater_than(0));
  }
  NormalizerLayer add(Parameters&, const NormalizerShape&) const override {
    return {[eps = eps](const MaskedScores& scores, const Taps&) {
      const at::Tensor x = widened(scores.values);
      // All is divided by e^m, m = max(0, max x), so that no power exceeds 1.
      const at::Tensor m = x.detach().amax(-1, /*keepdim=*/true).clamp_min(0);
      const at::Tensor one = (-m).exp(), small = one * at::expm1(x.clamp_max(1)),
                       large = (x - m).exp() - one;
      const at::Tensor e = where_seen(at::where(x < 1, small, large), scores);
      return (e.clamp_min(0) / (e.abs().sum(-1, /*keepdim=*/true) + eps * one));
    }};
  }
};

}  // namespace

std::shared_ptr<Normalizer> make_softpick() { return std::make_shared<Softpick>(); }

}  // namespace quench
