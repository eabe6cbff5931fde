// Penalties against worked examples and their gradients.
#include "penalties/penalty.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "config/yaml.h"
#include "penalties/penalties.h"
#include "tests/support/golden.h"

namespace quench {
namespace {

std::shared_ptr<Penalty> make(const std::string& section) {
  struct Holder {
    std::vector<std::shared_ptr<Penalty>> items;
  } holder;
  config::read_with(config::parse("{items: [" + section + "]}", {"test", 1}),
                    [&](config::Fields& f) { f.list("items", holder.items, penalties(), ""); });
  return holder.items.at(0);
}

at::Tensor numbers(std::initializer_list<double> values) {
  return at::tensor(at::ArrayRef<double>(values), at::kDouble).view({1, 1, -1});
}

at::Tensor wavy(at::IntArrayRef shape) {
  const int64_t count = c10::multiply_integers(shape);
  return at::sin(at::arange(count, at::kDouble).square() * 0.37 + 0.5).view(shape) * 2;
}

at::Tensor gradient_of(const Penalty& penalty, const at::Tensor& x, const at::Tensor& tokens = {}) {
  const at::Tensor leaf = x.detach().clone().requires_grad_();
  penalty.of(leaf, tokens).backward();
  return leaf.grad();
}

TEST(Tweo, IsTheWorkedExample) {
  const auto tweo = make("{type: tweo}");
  EXPECT_EQ(tweo->weight, 0.01);
  const at::Tensor a = numbers({1, -3, 30, 0.5});
  EXPECT_NEAR(tweo->of(a, {}).item<double>(), 2500.249946, 1e-6);
  EXPECT_LT(testing::max_difference(gradient_of(*tweo, a),
                                    numbers({0.012346, -0.333333, 333.332889, 0.001543})),
            1e-6);
  EXPECT_TRUE(std::isfinite(tweo->of(numbers({3e4}).to(at::kFloat), {}).item<double>()));
}

TEST(Tweo, TakesAnyPowerFrom2On) {
  for (const double p : {2., 3., 8.}) {
    const auto tweo = make(concat("{type: tweo, tau: 2, eps: 0, p: ", p, "}"));
    const at::Tensor a = numbers({0, -3, 5, 0.5}), x = (a / 2).abs();
    EXPECT_NEAR(tweo->of(a, {}).item<double>(), x.pow(p).mean().item<double>(), 1e-10);
    EXPECT_LT(
        testing::max_difference(gradient_of(*tweo, a), p / 2 * at::sign(a) * x.pow(p - 1) / 4),
        1e-10);
  }
}

// Padding does not count; two heads, of which one keeps half.
TEST(Density, IsTheMeanShareOfTheQueriesOfText) {
  const auto density = make_density(0.1);
  EXPECT_TRUE(density->wants("layers.3.attention.density"));
  const at::Tensor x = at::tensor({1.0, 0.8, 0.3, 0.5, 0.5, 0.9}, at::kDouble).view({1, 2, 3, 1});
  EXPECT_DOUBLE_EQ(density->of(x, {}).item<double>(), 4.0 / 6);
  const at::Tensor tokens = at::tensor({1, 1, 0}, at::kLong).to(at::kBool).unsqueeze(0);
  EXPECT_DOUBLE_EQ(density->of(x, tokens).item<double>(), 2.8 / 4);
}

TEST(ActivationNorm, IsTheMeanSquare) {
  const auto norm = make("{type: activation_norm, weight: 2}");
  EXPECT_EQ(norm->weight, 2);
  EXPECT_NEAR(norm->of(numbers({1, -3, 30, 0.5}), {}).item<double>(), 910.25 / 4, 1e-12);
}

// K = m4 / m2^2; of {-1, 1} it is 1, of {-1, 0, 0, 1} it is 2, whatever the scale.
TEST(Kurtosis, IsTheFourthMomentOverTheSquareOfTheSecond) {
  const auto kurtosis = make("{type: kurtosis}");
  for (const double scale : {1., 1e-3, 1e3}) {
    EXPECT_NEAR(kurtosis->of(scale * numbers({-1, 1}) + 7, {}).item<double>(), 1, 1e-5);
    EXPECT_NEAR(kurtosis->of(scale * numbers({-1, 0, 0, 1}), {}).item<double>(), 2, 1e-5);
  }
  const at::Tensor constant = at::full({2, 3, 4}, 5., at::kDouble);
  EXPECT_EQ(kurtosis->of(constant, {}).item<double>(), 0);
  EXPECT_TRUE(at::equal(gradient_of(*kurtosis, constant), at::zeros_like(constant)));
}

// dK/dx = 4 / (N m2^2) ((x - m)^3 - m3 - (m4 / m2) (x - m)), for each sequence.
TEST(Kurtosis, HasTheGradientOfItsFormula) {
  const at::Tensor x = wavy({3, 4, 5});
  const at::Tensor flat = x.flatten(1), c = flat - flat.mean(1, true);
  const auto moment = [&](int64_t k) { return c.pow(k).mean(1, true); };
  const at::Tensor expected =
      4 / (20 * moment(2).square()) * (c.pow(3) - moment(3) - moment(4) / moment(2) * c) / 3;
  EXPECT_LT(testing::max_difference(gradient_of(*make("{type: kurtosis}"), x), expected.view_as(x)),
            1e-10);  // 1e-12 beside the variance
}

class EveryPenalty : public ::testing::TestWithParam<std::string> {};

TEST_P(EveryPenalty, HasTheGradientOfItsDifferences) {
  const auto penalty = make("{type: " + GetParam() + "}");
  const at::Tensor tokens = at::tensor({1, 1, 1, 0, 1, 1, 0, 0}).view({2, 4}).to(at::kBool);
  const at::Tensor x = wavy({2, 4, 3}), gradient = gradient_of(*penalty, x, tokens);
  for (int64_t i = 0; i < x.numel(); ++i) {
    const at::Tensor step = at::zeros_like(x);
    step.view(-1)[i] = 1e-6;
    const double slope =
        (penalty->of(x + step, tokens) - penalty->of(x - step, tokens)).item<double>() / 2e-6;
    EXPECT_NEAR(gradient.view(-1)[i].item<double>(), slope, 1e-7) << i;  // rounding: 1e-16 / 1e-6
  }
}

// What a batch costs is the mean of what its samples cost, so that accumulation changes nothing.
TEST_P(EveryPenalty, IsAMeanOverSamples) {
  const auto penalty = make("{type: " + GetParam() + "}");
  const at::Tensor x = wavy({4, 3, 5});
  at::Tensor sum = at::zeros({}, at::kDouble);
  for (int64_t i = 0; i < 4; ++i) sum = sum + penalty->of(x.narrow(0, i, 1), {});
  EXPECT_NEAR(penalty->of(x, {}).item<double>(), sum.item<double>() / 4, 1e-12);
}

TEST_P(EveryPenalty, LeavesPaddingOutWhereItSaysSo) {
  const auto penalty = make("{type: " + GetParam() + "}");
  const bool padding_counts = GetParam() == "activation_norm";
  const at::Tensor x = wavy({2, 4, 3}), tokens = at::arange(4).lt(3).expand({2, 4});
  const at::Tensor alone = penalty->of(x.narrow(1, 0, 3), {});
  EXPECT_EQ(std::abs((penalty->of(x, tokens) - alone).item<double>()) < 1e-12, !padding_counts);
  at::Tensor wild = x.clone();
  wild.select(1, 3).fill_(INFINITY);
  if (!padding_counts) {
    EXPECT_NEAR(penalty->of(wild, tokens).item<double>(), alone.item<double>(), 1e-12);
  }
  EXPECT_TRUE(std::isfinite(penalty->of(x, at::zeros({2, 4}, at::kBool)).item<double>()))
      << "nothing but padding";
}

std::vector<std::string> types() {
  std::vector<std::string> types;
  for (const auto& entry : penalties().entries) types.push_back(entry.type);
  return types;
}

INSTANTIATE_TEST_SUITE_P(All, EveryPenalty, ::testing::ValuesIn(types()),
                         [](const auto& info) { return info.param; });

TEST(PenaltyListener, WeighsWhatItFindsAndTakesMeansWhereAskedTo) {
  const at::Tensor a = wavy({2, 3, 4}), b = 2 * wavy({2, 3, 4});
  const auto norm = make("{type: activation_norm, weight: 3}"), tweo = make("{type: tweo}"),
             off = make("{type: kurtosis, weight: 0}");
  PenaltyListener listener({norm, tweo, off});
  ASSERT_TRUE(listener.active());
  const Taps taps({&listener});
  EXPECT_FALSE(taps.replaces_weights());
  EXPECT_FALSE(taps.wanted("layers.0.", "attention.query")) << "that is off";
  for (int pass = 0; pass < 2; ++pass) {
    listener.begin({});
    taps("layers.0.", "ffn.output", a);
    taps("layers.0.", "ffn.residual", b);
    taps("layers.1.", "ffn.output", b);
    taps("layers.1.", "ffn.residual", a);
    const at::Tensor sum =
        3 * (norm->of(a, {}) + norm->of(b, {})) + 0.01 * (tweo->of(a, {}) + tweo->of(b, {})) / 2;
    EXPECT_NEAR(listener.take().item<double>(), sum.item<double>(), 1e-12);
  }
  listener.begin({});
  taps("layers.0.", "ffn.output", a.to(at::kBFloat16));
  taps("layers.0.", "ffn.residual", a.to(at::kBFloat16));
  EXPECT_EQ(listener.take().scalar_type(), at::kFloat);
  EXPECT_FALSE(PenaltyListener({off}).active());
  EXPECT_FALSE(PenaltyListener({}).active());
}

}  // namespace
}  // namespace quench
