// Sigmoid attention (Ramapuram et al. 2024): y_j = sigmoid(x_j + b). Keys do not compete; b keeps
// the sum of a row near 1 at the start.
#include <ATen/ATen.h>

#include <cmath>

#include "attention/normalizers/normalizers.h"
#include "attention/normalizers/softmax_row.h"

namespace quench {
namespace {

// Both branches from e^-|x|, which never overflows.
QUENCH_INLINE float sigmoid(float x) {
  const float small = exp_nonpositive(-std::abs(x));
  return (x >= 0 ? 1.f : small) / (1.f + small);
}

QUENCH_SIMD void sigmoid_forward(float* x, int64_t n, float bias) {
  for (int64_t i = 0; i < n; ++i) x[i] = sigmoid(x[i] + bias);
}

QUENCH_SIMD void sigmoid_backward(float* __restrict x, float* __restrict grad, int64_t n,
                                  float bias) {
  for (int64_t i = 0; i < n; ++i) {
    const float y = sigmoid(x[i] + bias);
    grad[i] *= y * (1 - y);
    x[i] = y;
  }
}

class SigmoidRow : public RowFunction {
 public:
  explicit SigmoidRow(double bias) : bias_(static_cast<float>(bias)) {}

  void forward(float* x, int64_t n, const ScoreRow&) const override {
    sigmoid_forward(x, n, bias_);
  }
  void backward(float* x, float* grad, int64_t n, const ScoreRow&, double&) const override {
    sigmoid_backward(x, grad, n, bias_);
  }

 private:
  float bias_;
};

class Sigmoid : public Normalizer {
 public:
  std::optional<double> bias;

  std::string type() const override { return "sigmoid"; }
  void describe(config::Fields& fields) override {
    fields("bias", bias, "added to every score; default -ln max_seq_length");
  }
  NormalizerLayer add(Parameters&, const NormalizerShape& shape) const override {
    const double b =
        bias.value_or(-std::log(static_cast<double>(std::max<int64_t>(1, shape.max_seq_length))));
    const auto formula = [b](const MaskedScores& scores, const Taps&) {
      return at::sigmoid(widened(scores.values) + b);
    };
    return {.formula = formula, .row = std::make_shared<SigmoidRow>(b)};
  }
};

}  // namespace

std::shared_ptr<Normalizer> make_sigmoid() { return std::make_shared<Sigmoid>(); }

}  // namespace quench
