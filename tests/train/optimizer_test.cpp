// The fused AdamW against the formula in float64.
#include "train/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/io/temporary_folder.h"
#include "tests/support/golden.h"

namespace quench {
namespace {

// Parameters of every kind; nothing to compute.
class Weights : public Model {
 public:
  Weights() {
    parameters.add_stacked({"q.weight", "k.weight"}, {3, 4}, {6, 4}, Init::normal(1));
    parameters.add("q.bias", {6}, Init::normal(1), Role::kBias);
    parameters.add("norm.weight", {4}, Init::normal(1), Role::kNorm);
    parameters.initialize(1);
    parameters.to(testing::device(), at::kFloat);
  }
  ModelOutput forward(const Batch&, ForwardContext&, Want) const override { return {}; }
  std::vector<std::string> hidden_state_taps() const override { return {}; }
};

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

  void step(const at::Tensor& gradient, double rate, const OptimizerConfig& config) {
    const at::Tensor g = gradient.to(at::kDouble);
    ++t;
    m = config.betas[0] * m + (1 - config.betas[0]) * g;
    v = config.betas[1] * v + (1 - config.betas[1]) * g * g;
    const at::Tensor m_hat = m / (1 - std::pow(config.betas[0], t)),
                     v_hat = v / (1 - std::pow(config.betas[1], t));
    value = value - rate * (m_hat / (v_hat.sqrt() + config.eps) + decay * value);
  }
};

at::Tensor rate_of(double rate) { return at::scalar_tensor(rate, at::dtype(at::kDouble)); }

class AdamWTest : public ::testing::Test {
 protected:
  AdamWTest() {
    config_.betas = {0.8, 0.95};
    config_.eps = 1e-3;
    config_.weight_decay = 0.1;
    for (const Parameter& parameter : model_.parameters.all())
      references_.emplace_back(parameter.value, parameter.parts[0].name == "q.weight" ? 0.1 : 0);
  }

  // Sets every gradient to a function of `step` and returns them.
  std::vector<at::Tensor> set_gradients(int64_t step) {
    std::vector<at::Tensor> gradients;
    for (Parameter& parameter : model_.parameters.all()) {
      const at::Tensor n = at::arange(parameter.value.numel(), parameter.value.detach().options())
                               .view(parameter.value.sizes());
      gradients.push_back(at::sin(n * 1.7 + static_cast<double>(step)) * 0.3);
      parameter.value.mutable_grad() = gradients.back().clone();
    }
    return gradients;
  }
  void expect_reference() const {
    size_t i = 0;
    for (const Parameter& parameter : model_.parameters.all()) {
      EXPECT_TRUE(
          at::allclose(parameter.value.detach().to(at::kDouble), references_[i].value, 1e-6, 1e-6))
          << parameter.parts[0].name;
      ++i;
    }
  }
  std::vector<at::Tensor> values() const {
    std::vector<at::Tensor> values;
    for (const Parameter& parameter : model_.parameters.all())
      values.push_back(parameter.value.detach().clone());
    return values;
  }

  Weights model_;
  OptimizerConfig config_;
  std::vector<Reference> references_;
};

TEST_F(AdamWTest, FollowsTheFormula) {
  AdamW optimizer(model_, config_);
  for (int64_t step = 0; step < 10; ++step) {
    const std::vector<at::Tensor> gradients = set_gradients(step);
    const double rate = 0.01 * static_cast<double>(step + 1);
    optimizer.step(rate_of(rate), {}, {});
    for (size_t i = 0; i < gradients.size(); ++i) references_[i].step(gradients[i], rate, config_);
    expect_reference();
  }
}

TEST_F(AdamWTest, ScalesTheGradientsByTheFactor) {
  AdamW optimizer(model_, config_);
  for (int64_t step = 0; step < 3; ++step) {
    const std::vector<at::Tensor> gradients = set_gradients(step);
    optimizer.step(rate_of(0.01), at::scalar_tensor(0.25, at::device(testing::device())), {});
    for (size_t i = 0; i < gradients.size(); ++i)
      references_[i].step(gradients[i] * 0.25, 0.01, config_);
  }
  expect_reference();
}

TEST_F(AdamWTest, ASkippedStepNeverHappened) {
  AdamW optimizer(model_, config_);
  const at::Tensor keep = at::zeros({}, at::device(testing::device())), skip = at::ones_like(keep);
  for (int64_t step = 0; step < 4; ++step) {
    const std::vector<at::Tensor> gradients = set_gradients(step);
    if (step == 2) {
      const std::vector<at::Tensor> before = values();
      model_.parameters.all().front().value.mutable_grad().fill_(INFINITY);
      optimizer.step(rate_of(0.01), {}, skip);
      for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(at::equal(before[i], values()[i]));
    } else {
      optimizer.step(rate_of(0.01), {}, keep);
      for (size_t i = 0; i < gradients.size(); ++i)
        references_[i].step(gradients[i], 0.01, config_);
    }
  }
  expect_reference();
}

TEST_F(AdamWTest, LeavesAloneWhatHasNoGradient) {
  AdamW optimizer(model_, config_);
  const std::vector<at::Tensor> before = values();
  set_gradients(0);
  model_.parameters.all()[0].value.mutable_grad() = at::Tensor();
  optimizer.step(rate_of(0.01), {}, {});
  EXPECT_TRUE(at::equal(values()[0], before[0]));
  EXPECT_FALSE(at::equal(values()[1], before[1]));
}

TEST_F(AdamWTest, DecaysNeitherBiasesNorNormGains) {
  using Groups = std::vector<std::pair<double, std::vector<std::string>>>;
  EXPECT_EQ(AdamW(model_, config_).groups(),
            (Groups{{0.1, {"q.weight", "k.weight"}}, {0, {"q.bias", "norm.weight"}}}));
  config_.decay_norm_weights = true;
  EXPECT_EQ(AdamW(model_, config_).groups(),
            (Groups{{0.1, {"q.weight", "k.weight", "norm.weight"}}, {0, {"q.bias"}}}));
}

TEST_F(AdamWTest, MeasuresTheNormOfAllGradients) {
  AdamW optimizer(model_, config_);
  double squares = 0;
  for (const at::Tensor& gradient : set_gradients(0))
    squares += gradient.to(at::kDouble).pow(2).sum().item<double>();
  EXPECT_NEAR(optimizer.gradient_norm({}).item<double>(), std::sqrt(squares), 1e-5);
  EXPECT_NEAR(
      optimizer.gradient_norm(at::scalar_tensor(8., at::device(testing::device()))).item<double>(),
      std::sqrt(squares) / 8, 1e-6);
  optimizer.zero_gradients();
  for (const Parameter& parameter : model_.parameters.all())
    EXPECT_FALSE(parameter.value.grad().defined());
}

TEST_F(AdamWTest, ContinuesFromItsSavedState) {
  AdamW whole(model_, config_);
  set_gradients(0);
  whole.step(rate_of(0.01), {}, {});
  std::map<std::string, at::Tensor> state;
  for (const auto& [name, tensor] : whole.state()) state[name] = tensor.clone();
  EXPECT_EQ(state.at("step").item<double>(), 1);
  EXPECT_EQ(state.at("exp_avg.k.weight").sizes(), at::IntArrayRef({3, 4}));
  EXPECT_EQ(state.size(), 1u + 2 * 4);

  const std::vector<at::Tensor> start = values();
  AdamW resumed(model_, config_);
  for (auto& [name, tensor] : resumed.state()) tensor.copy_(state.at(name));
  set_gradients(1);
  resumed.step(rate_of(0.01), {}, {});
  const std::vector<at::Tensor> result = values();
  for (size_t i = 0; i < start.size(); ++i) {
    const at::NoGradGuard no_grad;
    model_.parameters.all()[i].value.copy_(start[i]);
  }
  set_gradients(1);
  whole.step(rate_of(0.01), {}, {});
  for (size_t i = 0; i < start.size(); ++i) EXPECT_TRUE(at::equal(values()[i], result[i]));
}

}  // namespace
}  // namespace quench
