// Normalized clipped softmax (Liao, Monz 2024): the clipped softmax with a stretch that follows the
// number n of keys that a query sees, y = clip((1 - gamma) softmax(x) + gamma, 0, 1), gamma =
// -alpha / n. Before the clip a row sums to 1 - alpha + alpha / n, whatever its length.
#include <ATen/ATen.h>

#include "attention/normalizers/normalizers.h"
#include "attention/normalizers/softmax.h"
#include "attention/normalizers/softmax_row.h"

namespace quench {
namespace {

QUENCH_SIMD void clipped_forward(float* x, int64_t n, float gamma) {
  softmax_row(x, n, kHiddenScore, 0);
  stretch_row(x, n, 1 - gamma, gamma);
}

QUENCH_SIMD void clipped_backward(float* __restrict x, float* __restrict grad, int64_t n,
                                  float gamma) {
  softmax_row(x, n, kHiddenScore, 0);
  stretched_gradient(x, grad, n, 1 - gamma, gamma);
}

class NormalizedClippedRow : public RowFunction {
 public:
  explicit NormalizedClippedRow(double alpha) : alpha_(static_cast<float>(alpha)) {}

  void forward(float* x, int64_t n, const ScoreRow& row) const override {
    if (row.seen == 0) return std::fill(x, x + n, 0.f), void();
    clipped_forward(x, n, gamma(row));
  }
  void backward(float* x, float* grad, int64_t n, const ScoreRow& row, double&) const override {
    if (row.seen == 0) return std::fill(x, x + n, 0.f), std::fill(grad, grad + n, 0.f), void();
    clipped_backward(x, grad, n, gamma(row));
  }

 private:
  float gamma(const ScoreRow& row) const { return -alpha_ / static_cast<float>(row.seen); }

  float alpha_;
};

class NormalizedClipped : public Normalizer {
 public:
  double alpha = 4;

  std::string type() const override { return "normalized_clipped"; }
  void describe(config::Fields& fields) override {
    fields("alpha", alpha, "gamma = -alpha / visible keys of the row", config::at_least(0));
  }
  NormalizerLayer add(Parameters&, const NormalizerShape&) const override {
    const auto formula = [alpha = alpha](const MaskedScores& scores, const Taps&) {
      const at::Tensor p = softmax(scores.values), gamma = -alpha / seen_keys(scores, p);
      return where_seen(at::clamp(p * (1 - gamma) + gamma, 0, 1), scores);
    };
    return {.formula = formula, .row = std::make_shared<NormalizedClippedRow>(alpha)};
  }
};

}  // namespace

std::shared_ptr<Normalizer> make_normalized_clipped() {
  return std::make_shared<NormalizedClipped>();
}

}  // namespace quench
