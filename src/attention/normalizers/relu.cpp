// ReLU attention (Wortsman et al. 2023): y_j = relu(x_j) / n, n the keys that the query sees.
#include <ATen/ATen.h>

#include "attention/normalizers/normalizers.h"
#include "base/simd.h"

namespace quench {
namespace {

QUENCH_SIMD void relu_forward(float* x, int64_t n, float scale) {
  for (int64_t i = 0; i < n; ++i) x[i] = x[i] > 0 ? x[i] * scale : 0.f;
}

QUENCH_SIMD void relu_backward(float* __restrict x, float* __restrict grad, int64_t n,
                               float scale) {
  for (int64_t i = 0; i < n; ++i) {
    grad[i] = x[i] > 0 ? grad[i] * scale : 0.f;
    x[i] = x[i] > 0 ? x[i] * scale : 0.f;
  }
}

class ReluRow : public RowFunction {
 public:
  void forward(float* x, int64_t n, const ScoreRow& row) const override {
    relu_forward(x, n, scale(row));
  }
  void backward(float* x, float* grad, int64_t n, const ScoreRow& row, double&) const override {
    relu_backward(x, grad, n, scale(row));
  }

 private:
  static float scale(const ScoreRow& row) {
    return 1 / static_cast<float>(std::max<int64_t>(row.seen, 1));
  }
};

class Relu : public Normalizer {
 public:
  std::string type() const override { return "relu"; }
  void describe(config::Fields&) override {}
  NormalizerLayer add(Parameters&, const NormalizerShape&) const override {
    const auto formula = [](const MaskedScores& scores, const Taps&) {
      const at::Tensor x = widened(scores.values);
      return at::relu(x) / seen_keys(scores, x);
    };
    return {.formula = formula, .row = std::make_shared<ReluRow>()};
  }
};

}  // namespace

std::shared_ptr<Normalizer> make_relu() { return std::make_shared<Relu>(); }

}  // namespace quench
