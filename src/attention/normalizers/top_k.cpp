// Top-k attention (Gupta et al. 2021): the softmax over the k largest scores of a row. Of equal
// ones the first keys are taken. The choice counts as constant in the backward pass.
#include <ATen/ATen.h>

#include "attention/normalizers/normalizers.h"
#include "attention/normalizers/softmax.h"

namespace quench {
namespace {

class TopK : public Normalizer {
 public:
  int64_t k = 32;

  std::string type() const override { return "top_k"; }
  void describe(config::Fields& fields) override {
    fields("k", k, "keys that a query attends to, at most", config::at_least(1));
  }
  NormalizerLayer add(Parameters&, const NormalizerShape&) const override {
    return {[k = k](const MaskedScores& scores, const Taps&) {
      const at::Tensor& x = scores.values;
      if (k >= x.size(-1)) return where_seen(softmax(x), scores);
      const auto [sorted, order] = at::sort(x.detach(), /*stable=*/true, -1, /*descending=*/true);
      const at::Tensor kept = order.narrow(-1, 0, k), p = softmax(x.gather(-1, kept));
      return where_seen(at::zeros(x.sizes(), p.options()).scatter(-1, kept, p), scores);
    }};
  }
};

}  // namespace

std::shared_ptr<Normalizer> make_top_k() { return std::make_shared<TopK>(); }

}  // namespace quench
