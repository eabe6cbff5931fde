// Against LibTorch's own linear and cross entropy, in float64.
#include "nn/linear_cross_entropy.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <vector>

namespace quench {
namespace {

struct Inputs {
  at::Tensor hidden, weight, bias, labels;

  std::vector<at::Tensor> leaves() const {
    return bias.defined() ? std::vector{hidden, weight, bias} : std::vector{hidden, weight};
  }
};

Inputs inputs(int64_t rows, int64_t vocabulary, bool with_bias,
              at::ScalarType dtype = at::kDouble) {
  const at::Generator generator = at::globalContext().defaultGenerator(at::kCPU).clone();
  const auto random = [&](at::IntArrayRef shape) {
    return at::randn(shape, generator, at::dtype(dtype)).requires_grad_();
  };
  Inputs in{random({rows, 6}), random({vocabulary, 6}), {}, {}};
  if (with_bias) in.bias = random({vocabulary});
  in.labels = at::randint(vocabulary, {rows}, generator, at::dtype(at::kLong));
  return in;
}

at::Tensor expected_loss(const Inputs& in) {
  return at::cross_entropy_loss(at::linear(in.hidden, in.weight, in.bias), in.labels, {},
                                at::Reduction::Mean, /*ignore_index=*/-100);
}

// Gradients of `scale` * loss with respect to the leaves.
std::vector<at::Tensor> gradients(const Inputs& in, const at::Tensor& loss, double scale) {
  for (const at::Tensor& leaf : in.leaves()) leaf.mutable_grad() = at::Tensor();
  (loss * scale).backward();
  std::vector<at::Tensor> result;
  for (const at::Tensor& leaf : in.leaves()) result.push_back(leaf.grad().clone());
  return result;
}

void expect_equal_to_libtorch(const Inputs& in, double scale = 1) {
  const at::Tensor loss = linear_cross_entropy(in.hidden, in.weight, in.bias, in.labels);
  const at::Tensor expected = expected_loss(in);
  EXPECT_EQ(loss.dim(), 0);
  EXPECT_NEAR(loss.item<double>(), expected.item<double>(), 1e-12 * expected.item<double>());
  const auto ours = gradients(in, loss, scale), theirs = gradients(in, expected, scale);
  for (size_t i = 0; i < ours.size(); ++i) {
    EXPECT_TRUE(at::allclose(ours[i], theirs[i], 1e-9, 1e-14)) << "leaf " << i;
  }
}

TEST(LinearCrossEntropy, EqualsLibTorchInValueAndGradients) {
  expect_equal_to_libtorch(inputs(20, 11, /*with_bias=*/true));
  expect_equal_to_libtorch(inputs(20, 11, /*with_bias=*/false));
}

TEST(LinearCrossEntropy, PassesOnTheUpstreamGradient) {
  expect_equal_to_libtorch(inputs(20, 11, true), 65536);
  expect_equal_to_libtorch(inputs(20, 11, true), 0.125);
}

TEST(LinearCrossEntropy, LeavesOutIgnoredLabels) {
  Inputs in = inputs(20, 11, true);
  in.labels.slice(0, 0, 20, 3).fill_(-100);
  expect_equal_to_libtorch(in);
}

TEST(LinearCrossEntropy, IsZeroWithoutAnyLabel) {
  Inputs in = inputs(20, 11, true);
  in.labels.fill_(-100);
  const at::Tensor loss = linear_cross_entropy(in.hidden, in.weight, in.bias, in.labels);
  EXPECT_EQ(loss.item<double>(), 0);
  for (const at::Tensor& gradient : gradients(in, loss, 1))
    EXPECT_TRUE(gradient.eq(0).all().item<bool>());
}

TEST(LinearCrossEntropy, IsZeroWithoutAnyRow) {
  const Inputs in = inputs(0, 11, true);
  const at::Tensor loss = linear_cross_entropy(in.hidden, in.weight, in.bias, in.labels);
  EXPECT_EQ(loss.item<double>(), 0);
  const std::vector<at::Tensor> zero = gradients(in, loss, 1);
  EXPECT_TRUE(at::equal(zero[1], at::zeros({11, 6}, at::kDouble)));
  EXPECT_TRUE(at::equal(zero[2], at::zeros({11}, at::kDouble)));
}

// The vocabulary leaves 512 rows a chunk: three chunks, the last one not full; of five, five and
// two blocks of columns.
TEST(LinearCrossEntropy, AddsUpItsChunks) {
  Inputs in = inputs(1200, 20'000, true);
  in.labels.slice(0, 0, 1200, 5).fill_(-100);
  in.labels.slice(0, 512, 1024).fill_(-100);  // a chunk without labels
  expect_equal_to_libtorch(in, 0.5);
}

TEST(LinearCrossEntropy, HasTheSameValueWithoutGradients) {
  const Inputs in = inputs(20, 11, true);
  const at::NoGradGuard no_grad;
  const at::Tensor loss = linear_cross_entropy(in.hidden, in.weight, in.bias, in.labels);
  EXPECT_FALSE(loss.requires_grad());
  EXPECT_NEAR(loss.item<double>(), expected_loss(in).item<double>(), 1e-12);
}

// Evaluation pays for no gradients, although its weights could have some. They would not be formed
// in bfloat16, where logits are float32.
TEST(LinearCrossEntropy, FormsNoGradientsThatNobodyWants) {
  const Inputs in = inputs(20, 11, true, at::kBFloat16);
  const at::NoGradGuard no_grad;
  const at::Tensor loss = linear_cross_entropy(in.hidden, in.weight, in.bias, in.labels);
  EXPECT_EQ(loss.scalar_type(), at::kFloat);
  EXPECT_NEAR(loss.item<double>(), expected_loss(in).item<double>(), 0.05);
}

TEST(LinearCrossEntropy, StaysFiniteForLargeLogits) {
  Inputs in = inputs(20, 11, true, at::kFloat);
  in.hidden.detach().mul_(1e4);
  const at::Tensor loss = linear_cross_entropy(in.hidden, in.weight, in.bias, in.labels);
  EXPECT_NEAR(loss.item<double>(), expected_loss(in).item<double>(), 1e-4 * loss.item<double>());
  for (const at::Tensor& gradient : gradients(in, loss, 1))
    EXPECT_TRUE(gradient.isfinite().all().item<bool>());
}

}  // namespace
}  // namespace quench
