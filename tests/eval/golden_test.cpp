// Every number that the paper's validation scripts print, from the same weights and samples.
#include <cmath>

#include "eval/evaluator.h"
#include "tests/support/golden.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

class GoldenMetrics : public ::testing::TestWithParam<std::string> {};

// 1e-5: both sides compute norms and moments of float32 activations that differ in their last bits;
// times the factor of the device.
TEST_P(GoldenMetrics, RepeatTheReference) {
  const Json golden =
      testing::read_json(testing::golden_folder() / "metrics" / (GetParam() + ".json"));
  const std::string family = golden.at("family");
  const Pretrained model = testing::calm_model(family, golden.at("variant"));
  model.model->parameters.to(testing::device(), at::kFloat);
  const BatchSourcePtr source = testing::make_source(
      testing::golden_folder() / "streams" / (family + ".safetensors"), "eval.");
  EvaluationOptions options;
  options.batch_size = 4;
  options.device = testing::device();
  options.label = "";
  const Json result = evaluate(model, *source, options).to_json();
  const Json& reference = result.at("outliers").at("reference");
  for (const auto& [name, value] : golden.at("metrics").items()) {
    const double expected = value.get<double>();
    const double ours = name == "perplexity" ? result.at("reference").at("perplexity").get<double>()
                                             : reference.at(name).get<double>();
    EXPECT_NEAR(ours, expected, 1e-5 * testing::device_factor() * std::abs(expected)) << name;
  }
  EXPECT_EQ(reference.size() + 1, golden.at("metrics").size());
  EXPECT_EQ(result.at("samples"), 23);
}

INSTANTIATE_TEST_SUITE_P(All, GoldenMetrics, ::testing::ValuesIn(testing::golden_cases("metrics")),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace quench
