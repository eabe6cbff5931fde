// Softmax with a way out: p_j = e^{x_j} / (e^s + sum_k e^{x_k}), as if there were one more key with
// the logit s and the value 0. s = 0: softmax1 (Miller 2023); s learned, one number a head: the
// attention sink of gpt-oss. s stands behind the scale, the cap and the mask of the scores.
#include <ATen/ATen.h>

#include "attention/normalizers/normalizers.h"
#include "attention/normalizers/softmax_row.h"

namespace quench {
namespace {

// `sink` broadcastable to the scores. log(e^s + sum e^x) never exponentiates more than 0.
at::Tensor with_sink(const MaskedScores& scores, const at::Tensor& sink) {
  const at::Tensor x = widened(scores.values);
  const at::Tensor total =
      at::logaddexp(at::logsumexp(x, -1, /*keepdim=*/true), sink.to(x.scalar_type()));
  return (x - total).exp();
}

QUENCH_SIMD void sink_forward(float* x, int64_t n, float sink) { softmax_row(x, n, sink, 1); }

// Returns d loss / d sink.
QUENCH_SIMD float sink_backward(float* __restrict x, float* __restrict grad, int64_t n,
                                float sink) {
  const float share = softmax_row(x, n, sink, 1);
  return -share * softmax_gradient(x, grad, n);
}

class SinkRow : public RowFunction {
 public:
  explicit SinkRow(const Parameter* sink) : sink_(sink) {}  // null: 0 in every head

  void forward(float* x, int64_t n, const ScoreRow& row) const override {
    sink_forward(x, n, logit(row));
  }
  void backward(float* x, float* grad, int64_t n, const ScoreRow& row,
                double& parameter_grad) const override {
    parameter_grad += sink_backward(x, grad, n, logit(row));
  }
  const Parameter* parameter() const override { return sink_; }

 private:
  float logit(const ScoreRow& row) const {
    return sink_ ? sink_->value.const_data_ptr<float>()[row.head] : 0.f;
  }

  const Parameter* sink_;
};

class Softmax1 : public Normalizer {
 public:
  std::string type() const override { return "softmax1"; }
  void describe(config::Fields&) override {}
  NormalizerLayer add(Parameters&, const NormalizerShape&) const override {
    const auto formula = [](const MaskedScores& scores, const Taps&) {
      return with_sink(scores, at::zeros({1}, scores.values.options()));
    };
    return {.formula = formula, .row = std::make_shared<SinkRow>(nullptr)};
  }
};

class Sink : public Normalizer {
 public:
  double init_std = 0.02;

  std::string type() const override { return "sink"; }
  void describe(config::Fields& fields) override {
    fields("init_std", init_std, "standard deviation of fresh logits; 0: softmax1 at the start",
           config::at_least(0));
  }
  NormalizerLayer add(Parameters& parameters, const NormalizerShape& shape) const override {
    Parameter* sink = &parameters.add(shape.module + ".sink", {shape.heads}, Init::normal(init_std),
                                      Role::kToken);
    const auto formula = [sink](const MaskedScores& scores, const Taps& taps) {
      return with_sink(scores, tapped(*sink, taps).view({1, -1, 1, 1}));
    };
    return {.formula = formula, .row = std::make_shared<SinkRow>(sink), .parameters = {sink}};
  }
};

}  // namespace

std::shared_ptr<Normalizer> make_softmax1() { return std::make_shared<Softmax1>(); }
std::shared_ptr<Normalizer> make_sink() { return std::make_shared<Sink>(); }

}  // namespace quench
