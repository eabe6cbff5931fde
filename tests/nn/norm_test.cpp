#include "nn/norm.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

namespace quench {
namespace {

struct Example {
  std::string kind;
  std::vector<double> y, grad_x;
  std::vector<double> grad_gain;
};

// x = (1, -2, 3, 0.5), every gain 2, eps 1e-5, gradients of y (1, 2, 3, 4). By hand in float64.
TEST(Norm, ComputesWorkedExamples) {
  for (const Example& e : {Example{"rms_scalar",
                                   {1.059624, -2.119249, 3.178873, 0.529812},
                                   {0.464749, 3.308999, 1.394248, 3.94106},
                                   {4.238498}},
                           Example{"rms",
                                   {1.059624, -2.119249, 3.178873, 0.529812},
                                   {0.464749, 3.308999, 1.394248, 3.94106},
                                   {0.529812, -2.119249, 4.768310, 1.059624}},
                           Example{"layer", {0.421117, -2.947817, 2.667073, -0.140372}, {}, {}}}) {
    Parameters parameters;
    const Norm norm = add_norm(parameters, "n", 4, {norm_kind(e.kind), 1e-5});
    parameters.initialize(0);
    parameters.to(at::kCPU, at::kDouble);
    {
      const at::NoGradGuard no_grad;
      norm.weight->value.fill_(2);
    }
    const at::Tensor x = at::tensor({1.0, -2.0, 3.0, 0.5}, at::kDouble).requires_grad_();
    const at::Tensor y = norm(x, Taps());
    const auto near = [&](const at::Tensor& value, const std::vector<double>& expected) {
      return at::allclose(value, at::tensor(expected, at::kDouble), 0, 1e-6);
    };
    EXPECT_TRUE(near(y.detach(), e.y)) << e.kind << y;
    if (e.grad_x.empty()) continue;
    y.backward(at::tensor({1.0, 2.0, 3.0, 4.0}, at::kDouble));
    EXPECT_TRUE(near(x.grad(), e.grad_x)) << e.kind << x.grad();
    EXPECT_TRUE(near(norm.weight->value.grad(), e.grad_gain)) << e.kind;
  }
}

// As under autocast, with float32 gains.
TEST(Norm, TakesHalfPrecisionBesideWideGains) {
  for (const char* kind : {"layer", "rms", "rms_scalar"}) {
    Parameters parameters;
    const Norm norm = add_norm(parameters, "n", 4, {norm_kind(kind), 1e-5});
    parameters.initialize(0);
    const at::Tensor x = at::tensor({1.f, -2.f, 3.f, 0.5f}).to(at::kBFloat16);
    // Half a step of bfloat16 at 2.
    EXPECT_TRUE(
        at::allclose(norm(x, Taps()).to(at::kFloat), norm(x.to(at::kFloat), Taps()), 0, 8e-3))
        << kind;
  }
}

TEST(Norm, HasABiasOnlyWhereItHasAMean) {
  for (const char* kind : {"layer", "rms", "rms_scalar"}) {
    Parameters parameters;
    add_norm(parameters, "n", 4, {norm_kind(kind), 1e-5});
    EXPECT_EQ(parameters.named_values().size(), kind == std::string("layer") ? 2u : 1u) << kind;
    EXPECT_EQ(parameters.all()[0].value.size(0), kind == std::string("rms_scalar") ? 1 : 4) << kind;
  }
}

TEST(Init, AnOrthogonalMatrixKeepsLengths) {
  Parameters parameters;
  Parameter& square = parameters.add("a", {6, 6}, Init::orthogonal());
  Parameter& wide = parameters.add("b", {4, 6}, Init::orthogonal());
  parameters.initialize(3);
  EXPECT_TRUE(at::allclose(at::matmul(square.value, square.value.t()), at::eye(6), 0, 1e-6));
  EXPECT_TRUE(at::allclose(at::matmul(wide.value, wide.value.t()), at::eye(4), 0, 1e-6));
  EXPECT_FALSE(at::allclose(square.value, at::eye(6), 0, 0.1));
}

}  // namespace
}  // namespace quench
