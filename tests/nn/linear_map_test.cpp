// Against LibTorch's own linear in float64.
#include "nn/linear_map.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include <limits>
#include <vector>

namespace quench {
namespace {

struct Result {
  at::Tensor y;
  std::vector<at::Tensor> gradients;  // of x, weight and, if there is one, bias
};

template <typename Linear>
Result run(const Linear& affine, const std::vector<at::Tensor>& inputs, const at::Tensor& grad,
           at::ScalarType dtype) {
  std::vector<at::Tensor> leaves;
  for (const at::Tensor& input : inputs)
    leaves.push_back(input.detach().to(dtype).requires_grad_());
  const at::Tensor y = affine(leaves[0], leaves[1], leaves.size() > 2 ? leaves[2] : at::Tensor());
  y.backward(grad.to(dtype));
  Result result{y.detach(), {}};
  for (const at::Tensor& leaf : leaves) result.gradients.push_back(leaf.grad());
  return result;
}

const auto libtorch = [](const at::Tensor& x, const at::Tensor& w, const at::Tensor& b) {
  return at::linear(x, w, b);
};

// Sums of `terms` products of standard normal numbers: rounding errors of about sqrt(terms)
// half-ulps of the sum's size, which is sqrt(terms) as well; eight times that bounds the largest.
void expect_close(const at::Tensor& actual, const at::Tensor& expected, int64_t terms) {
  ASSERT_EQ(actual.sizes(), expected.sizes());
  const double bound = 8 * std::numeric_limits<float>::epsilon() / 2 * static_cast<double>(terms);
  EXPECT_LE((actual.to(at::kDouble) - expected).abs().max().item<double>(), bound);
}

void expect_equal_to_libtorch(const at::Tensor& x, const at::Tensor& weight,
                              const at::Tensor& bias) {
  const std::vector<at::Tensor> inputs =
      bias.defined() ? std::vector{x, weight, bias} : std::vector{x, weight};
  std::vector<int64_t> shape = x.sizes().vec();
  shape.back() = weight.size(0);
  const at::Tensor grad = at::randn(shape);
  const Result actual = run(linear_map, inputs, grad, at::kFloat),
               expected = run(libtorch, inputs, grad, at::kDouble);
  const int64_t rows = x.numel() / x.size(-1);
  expect_close(actual.y, expected.y, x.size(-1) + 1);
  expect_close(actual.gradients[0], expected.gradients[0], weight.size(0));
  expect_close(actual.gradients[1], expected.gradients[1], rows);
  if (bias.defined()) expect_close(actual.gradients[2], expected.gradients[2], rows);
}

TEST(LinearMap, EqualsLibTorchInValueAndGradients) {
  at::manual_seed(1);
  expect_equal_to_libtorch(at::randn({3, 17, 40}), at::randn({24, 40}), at::randn({24}));
  expect_equal_to_libtorch(at::randn({19, 40}), at::randn({24, 40}), {});
  expect_equal_to_libtorch(at::randn({1, 1, 7}), at::randn({1, 7}), at::randn({1}));
}

TEST(LinearMap, TakesOperandsOfAnyStrides) {
  at::manual_seed(2);
  expect_equal_to_libtorch(at::randn({40, 17, 3}).transpose(0, 2), at::randn({40, 24}).t(),
                           at::randn({48}).slice(0, 0, 48, 2));
}

TEST(LinearMap, LeavesOutGradientsThatNobodyWants) {
  const at::Tensor x = at::randn({5, 4}), weight = at::randn({3, 4}).requires_grad_();
  linear_map(x, weight).sum().backward();
  EXPECT_TRUE(at::allclose(weight.grad(), x.sum(0).expand({3, 4})));
  at::NoGradGuard no_grad;
  EXPECT_FALSE(linear_map(x, weight).requires_grad());
}

TEST(LinearMap, IsLibTorchsWhereOneDnnDoesNotDo) {
  const at::Tensor x = at::randn({5, 4}), weight = at::randn({3, 4});
  EXPECT_TRUE(
      at::equal(linear_map(x, weight, at::ones({1})), at::linear(x, weight, at::ones({1}))));
  EXPECT_EQ(linear_map(x.to(at::kDouble), weight.to(at::kDouble)).scalar_type(), at::kDouble);
  EXPECT_EQ(linear_map(at::randn({0, 4}), weight).sizes(), at::IntArrayRef({0, 3}));
  EXPECT_THROW(linear_map(at::randn({5, 7}), weight), c10::Error);
}

TEST(LinearMap, HasSecondDerivatives) {
  const auto second = [](const auto& affine) {
    const at::Tensor x = at::ones({2, 4}).requires_grad_(), w = at::ones({3, 4}).requires_grad_();
    const at::Tensor first =
        torch::autograd::grad({affine(x, w, at::Tensor()).square().sum()}, {x}, {}, true, true)[0];
    return torch::autograd::grad({first.square().sum()}, {w})[0];
  };
  EXPECT_TRUE(at::equal(second(linear_map), second(libtorch)));
}

}  // namespace
}  // namespace quench
