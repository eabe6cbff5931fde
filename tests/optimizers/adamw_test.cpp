// The fused AdamW against the formula in float64.
#include "optimizers/adamw.h"

#include <cmath>

#include "tests/optimizers/weights.h"

namespace quench {
namespace {

// One parameter's AdamW in float64 (Loshchilov, Hutter 2019, algorithm 2).
struct Reference {
  at::Tensor value, m, v;
  double decay;
  int64_t t = 0;

  Reference(const at::Tensor& start, double weight_decay)
      : value(start.detach().to(at::kDouble)),
        m(at::zeros_like(value)),
        v(at::zeros_like(value)),
        decay(weight_decay) {}

  void step(const at::Tensor& gradient, double rate, const AdamWOptions& options) {
    const at::Tensor g = gradient.to(at::kDouble);
    ++t;
    m = options.betas[0] * m + (1 - options.betas[0]) * g;
    v = options.betas[1] * v + (1 - options.betas[1]) * g * g;
    const at::Tensor m_hat = m / (1 - std::pow(options.betas[0], t)),
                     v_hat = v / (1 - std::pow(options.betas[1], t));
    value = value - rate * (m_hat / (v_hat.sqrt() + options.eps) + decay * value);
  }
};

class AdamWTest : public OptimizerTest {
 protected:
  AdamWTest() {
    config_.options = {{0.8, 0.95}, 1e-3};
    config_.weight_decay = 0.1;
    for (const Parameter& parameter : parameters_.all())
      references_.emplace_back(parameter.value, parameter.parts[0].name == "q.weight" ? 0.1 : 0);
  }

  void expect_reference() const {
    size_t i = 0;
    for (const Parameter& parameter : parameters_.all()) {
      EXPECT_TRUE(
          at::allclose(parameter.value.detach().to(at::kDouble), references_[i].value, 1e-6, 1e-6))
          << parameter.parts[0].name;
      ++i;
    }
  }

  AdamWConfig config_;
  std::vector<Reference> references_;
};

TEST_F(AdamWTest, FollowsTheFormula) {
  const auto optimizer = config_.build(parameters_);
  for (int64_t step = 0; step < 10; ++step) {
    const std::vector<at::Tensor> gradients = set_gradients(step);
    const double rate = 0.01 * static_cast<double>(step + 1);
    optimizer->step(rate_of(rate), {}, {});
    for (size_t i = 0; i < gradients.size(); ++i)
      references_[i].step(gradients[i], rate, config_.options);
    expect_reference();
  }
}

TEST_F(AdamWTest, ScalesTheGradientsByTheFactor) {
  const auto optimizer = config_.build(parameters_);
  for (int64_t step = 0; step < 3; ++step) {
    const std::vector<at::Tensor> gradients = set_gradients(step);
    optimizer->step(rate_of(0.01), number(0.25), {});
    for (size_t i = 0; i < gradients.size(); ++i)
      references_[i].step(gradients[i] * 0.25, 0.01, config_.options);
  }
  expect_reference();
}

TEST_F(AdamWTest, ASkippedStepNeverHappened) {
  const auto optimizer = config_.build(parameters_);
  for (int64_t step = 0; step < 4; ++step) {
    const std::vector<at::Tensor> gradients = set_gradients(step);
    optimizer->step(rate_of(0.01), {}, number(step == 2));
    if (step == 2) continue;
    for (size_t i = 0; i < gradients.size(); ++i)
      references_[i].step(gradients[i], 0.01, config_.options);
  }
  expect_reference();
}

TEST_F(AdamWTest, NamesItsMomentsAsItAlwaysDid) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : config_.build(parameters_)->state()) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"step", "exp_avg.q.weight", "exp_avg_sq.q.weight",
                                             "exp_avg.k.weight", "exp_avg_sq.k.weight",
                                             "exp_avg.q.bias", "exp_avg_sq.q.bias",
                                             "exp_avg.norm.weight", "exp_avg_sq.norm.weight"}));
}

}  // namespace
}  // namespace quench
