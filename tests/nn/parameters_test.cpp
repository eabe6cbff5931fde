#include "nn/parameters.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "nn/layers.h"
#include "tests/io/temporary_folder.h"

namespace quench {
namespace {

// Query, key and value stacked, an embedding with a padding row, a bias.
void add_all(Parameters& parameters) {
  parameters.add_stacked({"q.weight", "k.weight", "v.weight"}, {2, 3}, {6, 3}, Init::normal(0.02));
  add_embedding(parameters, "word", 5, 3, Init::normal(1), /*padding_row=*/1);
  parameters.add("bias", {4}, Init::constant(0.25));
}

std::map<std::string, at::Tensor> values_of(const Parameters& parameters) {
  std::map<std::string, at::Tensor> values;
  for (const auto& [name, value] : parameters.named_values()) values[name] = value.clone();
  return values;
}

class ParametersTest : public testing::Test {
 protected:
  ParametersTest() {
    add_all(parameters_);
    parameters_.initialize(1);
  }
  // What load_values says about `tensors`.
  std::string loading(const std::map<std::string, at::Tensor>& tensors,
                      bool allow_partial = false) {
    return error_of([&] { load_values(parameters_, tensors, allow_partial); });
  }

  Parameters parameters_;
};

TEST_F(ParametersTest, IntegersAreNoWeights) {
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, value] : parameters_.named_values()) tensors[name] = value;
  tensors["bias"] = tensors["bias"].to(at::kLong);
  EXPECT_EQ(loading(tensors, /*allow_partial=*/true),
            "expected floating-point numbers, got integers: bias");
}

TEST_F(ParametersTest, NamesEveryPartInOrder) {
  std::vector<std::string> names;
  for (const auto& [name, value] : parameters_.named_values()) names.push_back(name);
  EXPECT_EQ(names,
            (std::vector<std::string>{"q.weight", "k.weight", "v.weight", "word.weight", "bias"}));
  EXPECT_EQ(parameters_.count(), 18 + 15 + 4);
}

TEST_F(ParametersTest, PartsAreViewsOfTheStack) {
  auto named = parameters_.named_values();
  const at::Tensor& stack = parameters_.all().front().value;
  EXPECT_TRUE(at::equal(stack.slice(0, 2, 4), named[1].second));
  named[1].second.fill_(7);
  EXPECT_TRUE(stack.slice(0, 2, 4).eq(7).all().item<bool>());
  EXPECT_FALSE(stack.slice(0, 0, 2).eq(7).any().item<bool>());
}

TEST_F(ParametersTest, PartsMayHaveAShapeOfTheirOwn) {
  Parameters gates;
  Parameter& gate =
      gates.add_stacked({"alpha.0.weight", "alpha.1.weight"}, {1, 3}, {2, 3, 1}, Init::constant(0));
  EXPECT_EQ(gate.value.sizes(), at::IntArrayRef({2, 3, 1}));
  EXPECT_EQ(gates.named_values()[1].second.sizes(), at::IntArrayRef({1, 3}));
}

TEST_F(ParametersTest, GradientsHaveTheNamesOfTheirParts) {
  parameters_.to(at::kCPU, at::kDouble);
  const at::Tensor& stack = parameters_.all().front().value;
  EXPECT_EQ(stack.scalar_type(), at::kDouble);
  (stack * at::arange(6, at::kDouble).unsqueeze(1)).sum().backward();
  const auto named = parameters_.named_gradients();
  EXPECT_EQ(named[2].first, "v.weight");
  EXPECT_TRUE(
      at::equal(named[2].second, at::tensor({4., 5.}).to(at::kDouble).unsqueeze(1).expand({2, 3})));
  EXPECT_TRUE(at::equal(named[4].second, at::zeros({4}, at::kDouble)))
      << "no gradient reads as zeros";
}

TEST_F(ParametersTest, InitializationIsAFunctionOfSeedAndName) {
  const auto first = values_of(parameters_);
  Parameters reordered;  // other parameters before it, and not stacked
  reordered.add("other", {100}, Init::normal(1));
  reordered.add("k.weight", {2, 3}, Init::normal(0.02));
  reordered.initialize(1);
  EXPECT_TRUE(at::equal(first.at("k.weight"), values_of(reordered).at("k.weight")));
  EXPECT_FALSE(at::equal(first.at("k.weight"), first.at("q.weight")));

  parameters_.initialize(2);
  EXPECT_FALSE(at::equal(first.at("k.weight"), values_of(parameters_).at("k.weight")));
  parameters_.initialize(1);
  EXPECT_TRUE(at::equal(first.at("k.weight"), values_of(parameters_).at("k.weight")));
}

TEST_F(ParametersTest, SomeCanBeDrawnAlone) {
  const auto first = values_of(parameters_);
  parameters_.initialize(2);
  const auto second = values_of(parameters_);
  parameters_.initialize(1, {"k.weight"});
  for (const auto& [name, value] : parameters_.named_values())
    EXPECT_TRUE(at::equal(value, (name == "k.weight" ? first : second).at(name))) << name;
}

TEST_F(ParametersTest, DrawsFromTheAskedDistribution) {
  Parameters large;
  large.add("normal", {200, 500}, Init::normal(0.02));
  large.add("uniform", {200, 500}, Init::uniform(0.5));
  large.add("constant", {3}, Init::constant(-2));
  large.initialize(5);
  const auto values = values_of(large);
  const double n = 1e5;
  EXPECT_NEAR(values.at("normal").std().item<double>(), 0.02, 0.02 * 5 / std::sqrt(2 * n));
  EXPECT_NEAR(values.at("normal").mean().item<double>(), 0, 0.02 * 5 / std::sqrt(n));
  EXPECT_NEAR(values.at("uniform").std().item<double>(), 0.5 / std::sqrt(3), 2e-3);
  EXPECT_LE(values.at("uniform").abs().max().item<double>(), 0.5);
  EXPECT_GT(values.at("uniform").abs().max().item<double>(), 0.499);
  EXPECT_TRUE(values.at("constant").eq(-2).all().item<bool>());
}

TEST_F(ParametersTest, ThePaddingRowStartsAtZeroAndGetsNoGradient) {
  Parameters parameters;
  const Embedding embedding = add_embedding(parameters, "word", 5, 3, Init::normal(1), 1);
  parameters.initialize(1);
  EXPECT_TRUE(embedding.weight->value[1].eq(0).all().item<bool>());
  EXPECT_TRUE(embedding.weight->value[0].ne(0).all().item<bool>());
  parameters.to(at::kCPU, at::kFloat);
  embedding(at::arange(5, at::kLong), Taps()).sum().backward();
  EXPECT_TRUE(embedding.weight->value.grad()[1].eq(0).all().item<bool>());
  EXPECT_TRUE(embedding.weight->value.grad()[0].eq(1).all().item<bool>());
}

TEST_F(ParametersTest, LoadsWhatItNamed) {
  const auto saved = values_of(parameters_);
  parameters_.initialize(2);
  EXPECT_EQ(loading(saved), "no error");
  for (const auto& [name, value] : parameters_.named_values())
    EXPECT_TRUE(at::equal(value, saved.at(name))) << name;
}

TEST_F(ParametersTest, NamesWhatACheckpointLacks) {
  auto tensors = values_of(parameters_);
  tensors.erase("k.weight");
  tensors.erase("bias");
  EXPECT_EQ(loading(tensors), "parameters missing from the checkpoint: k.weight, bias");
}

TEST_F(ParametersTest, NamesWhatAModelLacks) {
  auto tensors = values_of(parameters_);
  tensors["pooler.weight"] = at::zeros({2});
  EXPECT_EQ(loading(tensors),
            "parameters in the checkpoint that the model does not have: pooler.weight");
}

TEST_F(ParametersTest, NamesWhatHasAnotherShape) {
  auto tensors = values_of(parameters_);
  tensors["v.weight"] = at::zeros({3, 2});
  const std::string expected =
      "parameters of another shape: v.weight (expected [2, 3], got [3, 2])";
  EXPECT_EQ(loading(tensors), expected);
  EXPECT_EQ(loading(tensors, /*allow_partial=*/true), expected);
}

TEST_F(ParametersTest, CutsLongListsShort) {
  Parameters many;
  for (int i = 0; i < 10; ++i) many.add(concat("p", i), {1}, Init::constant(0));
  EXPECT_EQ(error_of([&] { load_values(many, {}); }),
            "parameters missing from the checkpoint: p0, p1, p2, p3, p4, p5, p6, p7 and 2 more");
}

TEST_F(ParametersTest, ARefusedCheckpointChangesNothing) {
  const auto before = values_of(parameters_);
  auto tensors = before;
  for (auto& [name, tensor] : tensors) tensor = tensor + 1;
  tensors.erase("bias");
  EXPECT_NE(loading(tensors), "no error");
  for (const auto& [name, value] : parameters_.named_values())
    EXPECT_TRUE(at::equal(value, before.at(name))) << name;
}

TEST_F(ParametersTest, APartialLoadReturnsWhatItLeft) {
  const at::Tensor bias = values_of(parameters_).at("bias");
  auto tensors = values_of(parameters_);
  tensors.erase("bias");
  tensors["q.weight"].fill_(3);
  tensors["classifier.weight"] = at::zeros({2});
  const NameDifference difference = load_values(parameters_, tensors, /*allow_partial=*/true);
  EXPECT_EQ(difference.missing, std::vector<std::string>{"bias"});
  EXPECT_EQ(difference.unexpected, std::vector<std::string>{"classifier.weight"});
  EXPECT_TRUE(values_of(parameters_).at("q.weight").eq(3).all().item<bool>());
  EXPECT_TRUE(at::equal(values_of(parameters_).at("bias"), bias));
}

// A listener that doubles the weight called "k.weight".
class DoubleKeys : public TapListener {
 public:
  bool wants(const std::string&) const override { return false; }
  at::Tensor activation(const std::string&, const at::Tensor& x) override { return x; }
  at::Tensor weight(const std::string& name, const at::Tensor& w) override {
    return name == "k.weight" ? w * 2 : w;
  }
};

TEST_F(ParametersTest, EveryPartPassesItsOwnWeightTap) {
  DoubleKeys listener;
  const Parameter& stack = parameters_.all().front();
  const at::Tensor tapped_value = tapped(stack, Taps({&listener}));
  EXPECT_TRUE(at::equal(tapped_value.slice(0, 2, 4), stack.value.slice(0, 2, 4) * 2));
  EXPECT_TRUE(at::equal(tapped_value.slice(0, 0, 2), stack.value.slice(0, 0, 2)));
  EXPECT_TRUE(tapped(stack, Taps()).is_same(stack.value));
}

}  // namespace
}  // namespace quench
