// What holds for every optimizer.
#include "optimizers/optimizer.h"

#include <cmath>
#include <map>

#include "tests/optimizers/weights.h"

namespace quench {
namespace {

class EveryOptimizer : public OptimizerTest, public ::testing::WithParamInterface<std::string> {
 protected:
  EveryOptimizer() {
    for (const auto& entry : optimizers().entries)
      if (entry.type == GetParam()) config_ = entry.make();
    config_->weight_decay = 0.1;
  }

  std::map<std::string, at::Tensor> state_of(const Optimizer& optimizer) const {
    std::map<std::string, at::Tensor> state;
    for (const auto& [name, tensor] : optimizer.state()) state[name] = tensor.clone();
    return state;
  }

  std::shared_ptr<OptimizerConfig> config_;
};

TEST_P(EveryOptimizer, ASkippedStepLeavesEverythingAsItIs) {
  const auto optimizer = config_->build(parameters_);
  set_gradients(0);
  optimizer->step(rate_of(0.01), {}, number(0));
  const std::vector<at::Tensor> before = values();
  const auto state = state_of(*optimizer);
  set_gradients(1);
  for (Parameter& parameter : parameters_.all()) {
    parameter.value.mutable_grad().flatten()[0].fill_(INFINITY);
    parameter.value.mutable_grad().flatten()[1].fill_(NAN);
  }
  optimizer->step(rate_of(0.01), number(0.5), number(1));
  for (size_t i = 0; i < before.size(); ++i) EXPECT_TRUE(at::equal(before[i], values()[i])) << i;
  for (const auto& [name, tensor] : state_of(*optimizer))
    EXPECT_TRUE(at::equal(tensor, state.at(name))) << name;
  EXPECT_EQ(optimizer->steps_taken().item<double>(), 1);

  set_gradients(1);
  optimizer->step(rate_of(0.01), number(0.5), number(0));
  for (size_t i = 0; i < before.size(); ++i) EXPECT_FALSE(at::equal(before[i], values()[i])) << i;
  EXPECT_EQ(optimizer->steps_taken().item<double>(), 2);
}

// A factor of 1/4 is a division of the gradients by 4: a power of two, which rounds nothing.
TEST_P(EveryOptimizer, MultipliesTheGradientsByTheFactor) {
  const std::vector<at::Tensor> start = values();
  const auto run = [&](double factor) {
    set_values(start);
    const auto optimizer = config_->build(parameters_);
    for (int64_t step = 0; step < 3; ++step) {
      set_gradients(step);
      for (Parameter& parameter : parameters_.all()) parameter.value.mutable_grad().mul_(factor);
      optimizer->step(rate_of(0.01), number(step == 1 ? 0.5 / factor : 0.25 / factor), {});
    }
    return values();
  };
  const std::vector<at::Tensor> quarter = run(0.25), whole = run(1);
  for (size_t i = 0; i < start.size(); ++i) EXPECT_TRUE(at::equal(quarter[i], whole[i])) << i;
}

// The rate as fp16 gives it (float32, beside the weights) is the rate on the CPU.
TEST_P(EveryOptimizer, TakesTheRateFromEitherSide) {
  const std::vector<at::Tensor> start = values();
  const auto run = [&](const at::Tensor& rate) {
    set_values(start);
    set_gradients(0);
    config_->build(parameters_)->step(rate, {}, {});
    return values();
  };
  const std::vector<at::Tensor> beside = run(number(0.25)), on_cpu = run(rate_of(0.25));
  for (size_t i = 0; i < start.size(); ++i)
    EXPECT_TRUE(at::allclose(beside[i], on_cpu[i], 1e-6, 1e-6)) << i;  // float32 rounding
}

TEST_P(EveryOptimizer, LeavesAloneWhatHasNoGradient) {
  for (const size_t left_out : {0, 1}) {
    const auto optimizer = config_->build(parameters_);
    const std::vector<at::Tensor> before = values();
    set_gradients(0);
    parameters_.all()[left_out].value.mutable_grad() = at::Tensor();
    optimizer->step(rate_of(0.01), {}, {});
    for (size_t i = 0; i < before.size(); ++i)
      EXPECT_EQ(at::equal(values()[i], before[i]), i == left_out) << i;
  }
}

TEST_P(EveryOptimizer, DecaysNeitherBiasesNorNormGains) {
  const auto decays = [&] {
    std::map<std::string, double> decays;
    for (const auto& [decay, names] : config_->build(parameters_)->groups())
      for (const std::string& name : names) decays[name] = decay;
    return decays;
  };
  std::map<std::string, double> expected = {
      {"q.weight", 0.1}, {"k.weight", 0.1}, {"q.bias", 0}, {"norm.weight", 0}};
  EXPECT_EQ(decays(), expected);
  config_->decay_norm_weights = true;
  expected["norm.weight"] = 0.1;
  EXPECT_EQ(decays(), expected);
}

// With gradients of 0 what is left of a step is the decay.
TEST_P(EveryOptimizer, DecayDrawsWeightsToZero) {
  const auto optimizer = config_->build(parameters_);
  const std::vector<at::Tensor> before = values();
  for (Parameter& parameter : parameters_.all())
    parameter.value.mutable_grad() = at::zeros_like(parameter.value);
  optimizer->step(rate_of(0.5), {}, {});
  for (size_t i = 0; i < before.size(); ++i)
    EXPECT_TRUE(at::allclose(values()[i], before[i] * (i == 0 ? 1 - 0.5 * 0.1 : 1), 1e-6, 0)) << i;
}

TEST_P(EveryOptimizer, MeasuresTheNormOfAllGradients) {
  const auto optimizer = config_->build(parameters_);
  double squares = 0;
  for (const at::Tensor& gradient : set_gradients(0))
    squares += gradient.to(at::kDouble).pow(2).sum().item<double>();
  EXPECT_NEAR(optimizer->gradient_norm({}).item<double>(), std::sqrt(squares), 1e-5);
  EXPECT_NEAR(optimizer->gradient_norm(number(8)).item<double>(), std::sqrt(squares) / 8, 1e-6);
  optimizer->zero_gradients();
  for (const Parameter& parameter : parameters_.all())
    EXPECT_FALSE(parameter.value.grad().defined());
}

TEST_P(EveryOptimizer, ContinuesFromItsSavedState) {
  const auto whole = config_->build(parameters_);
  set_gradients(0);
  whole->step(rate_of(0.01), {}, {});
  const auto state = state_of(*whole);
  EXPECT_EQ(state.at("step").item<double>(), 1);

  const std::vector<at::Tensor> start = values();
  const auto resumed = config_->build(parameters_);
  for (auto& [name, tensor] : resumed->state()) tensor.copy_(state.at(name));
  set_gradients(1);
  resumed->step(rate_of(0.01), {}, {});
  const std::vector<at::Tensor> result = values();
  set_values(start);
  set_gradients(1);
  whole->step(rate_of(0.01), {}, {});
  for (size_t i = 0; i < start.size(); ++i) EXPECT_TRUE(at::equal(values()[i], result[i])) << i;
}

std::vector<std::string> types() {
  std::vector<std::string> types;
  for (const auto& entry : optimizers().entries) types.push_back(entry.type);
  return types;
}

INSTANTIATE_TEST_SUITE_P(All, EveryOptimizer, ::testing::ValuesIn(types()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace quench
