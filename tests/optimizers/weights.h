// Parameters of every kind with gradients to step by; nothing to compute.
#pragma once

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "optimizers/optimizer.h"
#include "tests/support/golden.h"

namespace quench {

class OptimizerTest : public ::testing::Test {
 protected:
  OptimizerTest() {
    parameters_.add_stacked({"q.weight", "k.weight"}, {3, 4}, {6, 4}, Init::normal(1));
    parameters_.add("q.bias", {6}, Init::normal(1), Role::kBias);
    parameters_.add("norm.weight", {4}, Init::normal(1), Role::kNorm);
    parameters_.initialize(1);
    parameters_.to(testing::device(), at::kFloat);
  }

  // Sets every gradient to a function of `step` and returns them.
  std::vector<at::Tensor> set_gradients(int64_t step) {
    std::vector<at::Tensor> gradients;
    for (Parameter& parameter : parameters_.all()) {
      const at::Tensor n = at::arange(parameter.value.numel(), parameter.value.detach().options())
                               .view(parameter.value.sizes());
      gradients.push_back(at::sin(n * 1.7 + static_cast<double>(step)) * 0.3);
      parameter.value.mutable_grad() = gradients.back().clone();
    }
    return gradients;
  }

  // Copies of all weights.
  std::vector<at::Tensor> values() const {
    std::vector<at::Tensor> values;
    for (const Parameter& parameter : parameters_.all())
      values.push_back(parameter.value.detach().clone());
    return values;
  }
  void set_values(const std::vector<at::Tensor>& values) {
    const at::NoGradGuard no_grad;
    for (size_t i = 0; i < values.size(); ++i) parameters_.all()[i].value.copy_(values[i]);
  }

  // A rate on the CPU; a number beside the weights.
  static at::Tensor rate_of(double rate) { return at::scalar_tensor(rate, at::dtype(at::kDouble)); }
  static at::Tensor number(double x) {
    return at::scalar_tensor(x, at::device(testing::device()).dtype(at::kFloat));
  }

  Parameters parameters_;
};

}  // namespace quench
