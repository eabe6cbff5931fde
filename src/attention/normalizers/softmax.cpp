#include "attention/normalizers/softmax.h"

#include <ATen/ATen.h>

#include "attention/normalizers/softmax_row.h"

namespace quench {
namespace {

QUENCH_SIMD void softmax_forward(float* x, int64_t n) { softmax_row(x, n, kHiddenScore, 0); }

QUENCH_SIMD void clipped_forward(float* x, int64_t n, float factor, float gamma) {
  softmax_row(x, n, kHiddenScore, 0);
  stretch_row(x, n, factor, gamma);
}

QUENCH_SIMD void softmax_backward(float* __restrict x, float* __restrict grad, int64_t n) {
  softmax_row(x, n, kHiddenScore, 0);
  softmax_gradient(x, grad, n);
}

QUENCH_SIMD void clipped_backward(float* __restrict x, float* __restrict grad, int64_t n,
                                  float factor, float gamma) {
  softmax_row(x, n, kHiddenScore, 0);
  stretched_gradient(x, grad, n, factor, gamma);
}

class SoftmaxRow : public RowFunction {
 public:
  explicit SoftmaxRow(const Stretch& stretch)
      : stretch_(stretch),
        factor_(static_cast<float>(stretch.zeta - stretch.gamma)),
        gamma_(static_cast<float>(stretch.gamma)) {}

  void forward(float* x, int64_t n, const ScoreRow&) const override {
    if (stretch_.identity()) return softmax_forward(x, n);
    clipped_forward(x, n, factor_, gamma_);
  }
  void backward(float* x, float* grad, int64_t n, const ScoreRow&, double&) const override {
    if (stretch_.identity()) return softmax_backward(x, grad, n);
    clipped_backward(x, grad, n, factor_, gamma_);
  }
  std::optional<Stretch> stretch() const override { return stretch_; }

 private:
  Stretch stretch_;
  float factor_, gamma_;
};

}  // namespace

std::shared_ptr<const RowFunction> softmax_rows(const Stretch& stretch) {
  return std::make_shared<SoftmaxRow>(stretch);
}

at::Tensor softmax(const at::Tensor& scores) {
  const bool half = scores.scalar_type() == at::kHalf || scores.scalar_type() == at::kBFloat16;
  return half ? at::softmax(scores, -1, at::kFloat) : at::softmax(scores, -1);
}

at::Tensor stretch_and_clip(const at::Tensor& probabilities, const Stretch& stretch) {
  return at::clamp(probabilities * (stretch.zeta - stretch.gamma) + stretch.gamma, 0, 1);
}

NormalizerLayer Softmax::add(Parameters&, const NormalizerShape&) const {
  const auto formula = [](const MaskedScores& scores, const Taps&) {
    return softmax(scores.values);
  };
  return {.formula = formula, .row = softmax_rows({})};
}

void ClippedSoftmax::describe(config::Fields& fields) {
  fields("gamma", gamma, "lower end of the stretch, <= 0; default -0.025",
         config::between(-1e6, 0));
  fields("zeta", zeta, "upper end of the stretch, >= 1; default 1", config::at_least(1));
  fields("alpha", alpha, "sets gamma = -alpha / max_seq_length and zeta = 1", config::at_least(0));
  fields.require(!alpha || (!gamma && !zeta), "alpha",
                 "excludes gamma and zeta: give either alpha or those two");
}

Stretch ClippedSoftmax::stretch(int64_t max_seq_length) const {
  if (alpha) return {-*alpha / static_cast<double>(max_seq_length), 1};
  return {gamma.value_or(zeta ? 0 : -0.025), zeta.value_or(1)};
}

NormalizerLayer ClippedSoftmax::add(Parameters&, const NormalizerShape& shape) const {
  const Stretch own = stretch(shape.max_seq_length);
  const auto formula = [own](const MaskedScores& scores, const Taps&) {
    return stretch_and_clip(softmax(scores.values), own);
  };
  return {.formula = formula, .row = softmax_rows(own)};
}

}  // namespace quench
