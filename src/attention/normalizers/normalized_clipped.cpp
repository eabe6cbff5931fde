// Normalized clipped softmax (Liao, Monz 2024): the clipped softmax with a stretch that follows the
// number n of keys that a query sees, y = clip((1 - gamma) softmax(x) + gamma, 0, 1), gamma =
// -alpha / n. Before the clip a row sums to 1 - alpha + alpha / n, whatever its length.
#include <ATen/ATen.h>

#include "attention/normalizers/normalizers.h"
#include "attention/normalizers/softmax.h"

namespace quench {
namespace {

class NormalizedClipped : public Normalizer {
 public:
  double alpha = 4;

  std::string type() const override { return "normalized_clipped"; }
  void describe(config::Fields& fields) override {
    fields("alpha", alpha, "gamma = -alpha / visible keys of the row", config::at_least(0));
  }
  NormalizerLayer add(Parameters&, const NormalizerShape&) const override {
    return {[alpha = alpha](const MaskedScores& scores, const Taps&) {
      const at::Tensor p = softmax(scores.values), gamma = -alpha / seen_keys(scores, p);
      return where_seen(at::clamp(p * (1 - gamma) + gamma, 0, 1), scores);
    }};
  }
};

}  // namespace

std::shared_ptr<Normalizer> make_normalized_clipped() {
  return std::make_shared<NormalizedClipped>();
}

}  // namespace quench
