// Muon against its formula in float64, with the orthogonalization by singular values.
#include "optimizers/muon.h"

#include <cmath>

#include "tests/optimizers/weights.h"

namespace quench {
namespace {

at::Tensor matrix(std::initializer_list<double> numbers, int64_t rows, at::ScalarType dtype) {
  return at::tensor(at::ArrayRef<double>(numbers), at::kDouble).view({rows, -1}).to(dtype);
}

// Worked in float64 elsewhere, to six digits; float32 loses a digit over five steps.
TEST(NewtonSchulz, GivesTheWorkedExamples) {
  for (const auto& [dtype, bound] : {std::pair{at::kDouble, 1e-6}, {at::kFloat, 5e-6}}) {
    EXPECT_LT(
        testing::max_difference(newton_schulz(matrix({1, 2, 3, 4}, 2, dtype)),
                                matrix({-0.680661, 0.82554, 0.741295, 0.25944}, 2, at::kDouble)),
        bound);
    EXPECT_LT(
        testing::max_difference(
            newton_schulz(matrix({1, 0, 0, 2, 3, 1}, 3, dtype)),
            matrix({0.280527, -0.074548, -0.149096, 0.809548, 0.767034, 0.18113}, 3, at::kDouble)),
        bound);
  }
}

// U S V^T -> U p(p(p(p(p(S / |S|))))) V^T, where p is the polynomial of one step.
at::Tensor by_singular_values(const at::Tensor& matrices) {
  const auto [u, singular, v] = at::linalg_svd(matrices, /*full_matrices=*/false);
  at::Tensor s = singular / (singular.norm(2, {-1}, /*keepdim=*/true) + 1e-7);
  for (int i = 0; i < 5; ++i) s = 3.4445 * s - 4.7750 * s.pow(3) + 2.0315 * s.pow(5);
  return at::matmul(u * s.unsqueeze(-2), v);
}

TEST(NewtonSchulz, IsAPolynomialOfTheSingularValues) {
  for (const auto& [rows, columns] : {std::pair{5, 5}, {3, 8}, {8, 3}, {1, 6}, {6, 1}}) {
    const at::Tensor x = at::sin(at::arange(4 * rows * columns, at::kDouble).square() + 0.3)
                             .view({4, rows, columns});
    const at::Tensor expected = by_singular_values(x);
    EXPECT_LT(testing::max_difference(newton_schulz(x), expected), 1e-12);
    for (int64_t i = 0; i < 4; ++i)  // alone as in a batch
      EXPECT_LT(testing::max_difference(newton_schulz(x[i]), expected[i]), 1e-12);
    EXPECT_LT(testing::max_difference(newton_schulz(x * 1e3), expected), 1e-6) << "any scale";
  }
  EXPECT_TRUE(at::equal(newton_schulz(at::zeros({2, 3, 4})), at::zeros({2, 3, 4})));
}

TEST(Muon, ScalesStepsByTheShape) {
  for (const auto& [rows, columns, jordan, moonlight] :
       {std::tuple{768, 768, 1., 5.5426}, {3072, 768, 2., 11.0851}, {768, 3072, 1., 11.0851}}) {
    EXPECT_NEAR(muon_scale("jordan", rows, columns), jordan, 1e-4);
    EXPECT_NEAR(muon_scale("moonlight", rows, columns), moonlight, 1e-4);
  }
}

class MuonTest : public OptimizerTest, public ::testing::WithParamInterface<std::string> {
 protected:
  // q.weight and k.weight [3, 4] are there: a matrix of their shape, others, and what is none.
  MuonTest() {
    parameters_.add("other.weight", {3, 4}, Init::normal(1));
    parameters_.add("tall.weight", {7, 2}, Init::normal(1));
    parameters_.add("words.weight", {5, 4}, Init::normal(1), Role::kEmbedding);
    parameters_.add("gate.weight", {2, 4}, Init::normal(1), Role::kGate);
    parameters_.add("head.weight", {3, 4}, Init::normal(1), Role::kHead);
    parameters_.initialize(2);
    parameters_.to(testing::device(), at::kFloat);
  }
};

TEST_P(MuonTest, FollowsTheFormulaForEachPartAndLeavesTheRestToAdamW) {
  MuonConfig config;
  config.scale = GetParam();
  config.momentum = 0.75;
  const auto optimizer = config.build(parameters_);
  std::map<std::string, at::Tensor> expected, momenta;
  for (const auto& [name, value] : parameters_.named_values())
    expected[name] = value.to(at::kCPU, at::kDouble);
  for (const char* name : {"q.weight", "k.weight", "other.weight", "tall.weight"})
    momenta[name] = at::zeros_like(expected[name]);
  AdamWConfig adamw;  // the same weights in a world without Muon
  adamw.options = config.adamw;
  adamw.weight_decay = config.weight_decay;

  const std::vector<at::Tensor> start = values();
  for (int64_t step = 0; step < 4; ++step) {
    set_gradients(step);
    for (const auto& [name, gradient] : parameters_.named_gradients()) {
      if (!momenta.contains(name) || step == 2) continue;
      const at::Tensor g = 0.5 * gradient.to(at::kCPU, at::kDouble);
      at::Tensor &m = momenta[name], &w = expected[name];
      m = 0.75 * m + 0.25 * g;
      const double c = muon_scale(config.scale, w.size(0), w.size(1));
      w = w * (1 - 0.01 * 0.1) - 0.01 * c * by_singular_values(0.25 * g + 0.75 * m);
    }
    optimizer->step(rate_of(0.01), number(0.5), number(step == 2));
  }
  std::map<std::string, at::Tensor> result;
  for (const auto& [name, value] : parameters_.named_values()) result[name] = value.clone();
  set_values(start);
  const auto plain = adamw.build(parameters_);
  for (int64_t step = 0; step < 4; ++step) {
    set_gradients(step);
    plain->step(rate_of(0.01), number(0.5), number(step == 2));
  }
  for (const auto& [name, value] : parameters_.named_values()) {
    if (momenta.contains(name))  // float32 rounding, which five steps enlarge up to 3.4445^5 times
      EXPECT_LT(testing::max_difference(result[name], expected[name]), 3e-6) << name;
    else
      EXPECT_TRUE(at::equal(result[name], value)) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(All, MuonTest, ::testing::Values("moonlight", "jordan"),
                         [](const auto& info) { return info.param; });

// Batches are bounded, at 2^24 numbers: here two matrices.
TEST(Muon, UpdatesMoreMatricesThanABatchHolds) {
  Parameters parameters;
  for (const char* name : {"a", "b", "c"})
    parameters.add(name, {1, int64_t{1} << 23}, Init::constant(0));
  parameters.initialize(1);
  parameters.to(at::kCPU, at::kFloat);
  const auto optimizer = MuonConfig().build(parameters);
  for (Parameter& parameter : parameters.all())
    parameter.value.mutable_grad() = at::ones(parameter.value.sizes());
  optimizer->step(at::scalar_tensor(0.1, at::kDouble), {}, {});
  const at::Tensor first = parameters.all()[0].value;
  EXPECT_LT(first.max().item<double>(), 0);
  for (const Parameter& parameter : parameters.all())
    EXPECT_TRUE(at::equal(parameter.value, first));
}

TEST_F(OptimizerTest, MuonNamesItsState) {
  std::vector<std::string> names;
  for (const auto& [name, tensor] : MuonConfig().build(parameters_)->state()) names.push_back(name);
  EXPECT_EQ(names, (std::vector<std::string>{"step", "momentum.q.weight", "momentum.k.weight",
                                             "exp_avg.q.bias", "exp_avg_sq.q.bias",
                                             "exp_avg.norm.weight", "exp_avg_sq.norm.weight"}));
}

}  // namespace
}  // namespace quench
