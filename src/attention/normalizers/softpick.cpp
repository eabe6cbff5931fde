// Softpick (Zuhri et al. 2025): y_j = relu(e^{x_j} - 1) / (sum_k |e^{x_k} - 1| + eps) over the keys
// that are seen. A key with a score below 0 gets nothing, but counts in the sum.
#include <ATen/ATen.h>

#include "attention/normalizers/normalizers.h"
#include "attention/normalizers/softmax_row.h"

namespace quench {
namespace {

// e^x - 1 over e^m, with one = e^-m and x <= m. Near 0 the difference would cancel: there it is the
// series of expm1.
QUENCH_INLINE float scaled_expm1(float x, float m, float one) {
  const float series =
      x * (1 + x * (0.5f + x * (1.f / 6 + x * (1.f / 24 + x * (1.f / 120 + x * (1.f / 720))))));
  return std::abs(x) < 0.25f ? one * series : exp_nonpositive(x - m) - one;
}

struct SoftpickSums {
  float m, one, inverse;  // 1 / (sum |e^x - 1| + eps), times e^m
};

QUENCH_INLINE SoftpickSums softpick_sums(const float* x, int64_t n, float eps) {
  const float m = row_max(x, n, 0), one = exp_nonpositive(-m);
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i)
    sum += x[i] == kHiddenScore ? 0.f : std::abs(scaled_expm1(x[i], m, one));
  return {m, one, 1 / (sum + eps * one)};
}

QUENCH_SIMD void softpick_forward(float* x, int64_t n, float eps) {
  const SoftpickSums s = softpick_sums(x, n, eps);
  for (int64_t i = 0; i < n; ++i)
    x[i] = x[i] > 0 ? scaled_expm1(x[i], s.m, s.one) * s.inverse : 0.f;
}

// dx_j = e^{x_j} / D (1[x_j > 0] g_j - sign(x_j) sum_k y_k g_k)
QUENCH_SIMD void softpick_backward(float* __restrict x, float* __restrict grad, int64_t n,
                                   float eps) {
  const SoftpickSums s = softpick_sums(x, n, eps);
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < n; ++i)
    dot += x[i] > 0 ? scaled_expm1(x[i], s.m, s.one) * s.inverse * grad[i] : 0.f;
  for (int64_t i = 0; i < n; ++i) {
    const float power = exp_nonpositive(x[i] - s.m) * s.inverse;
    const float own = x[i] > 0 ? grad[i] - dot : x[i] < 0 ? dot : 0.f;
    grad[i] = power * own;
    x[i] = x[i] > 0 ? scaled_expm1(x[i], s.m, s.one) * s.inverse : 0.f;
  }
}

class SoftpickRow : public RowFunction {
 public:
  explicit SoftpickRow(double eps) : eps_(static_cast<float>(eps)) {}

  void forward(float* x, int64_t n, const ScoreRow&) const override {
    softpick_forward(x, n, eps_);
  }
  void backward(float* x, float* grad, int64_t n, const ScoreRow&, double&) const override {
    softpick_backward(x, grad, n, eps_);
  }

 private:
  float eps_;
};

class Softpick : public Normalizer {
 public:
  double eps = 1e-8;

  std::string type() const override { return "softpick"; }
  void describe(config::Fields& fields) override {
    fields("eps", eps, "added to the sum", config::greater_than(0));
  }
  NormalizerLayer add(Parameters&, const NormalizerShape&) const override {
    const auto formula = [eps = eps](const MaskedScores& scores, const Taps&) {
      const at::Tensor x = widened(scores.values);
      // All is divided by e^m, m = max(0, max x), so that no power exceeds 1.
      const at::Tensor m = x.detach().amax(-1, /*keepdim=*/true).clamp_min(0);
      const at::Tensor one = (-m).exp(), small = one * at::expm1(x.clamp_max(1)),
                       large = (x - m).exp() - one;
      const at::Tensor e = where_seen(at::where(x < 1, small, large), scores);
      return e.clamp_min(0) / (e.abs().sum(-1, /*keepdim=*/true) + eps * one);
    };
    return {.formula = formula, .row = std::make_shared<SoftpickRow>(eps)};
  }
};

}  // namespace

std::shared_ptr<Normalizer> make_softpick() { return std::make_shared<Softpick>(); }

}  // namespace quench
