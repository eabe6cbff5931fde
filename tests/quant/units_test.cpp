// Every figure here is compared exactly: losses are summed in the reference's order, so that grid
// search and golden section take the same decisions, and the arithmetic is the same float32.
#include <gtest/gtest.h>

#include <vector>

#include "quant/estimator.h"
#include "quant/percentile.h"
#include "quant/quantizer.h"
#include "tests/quant/units.h"

namespace quench {
namespace {

QuantizerOptions options_of(const Json& unit) {
  QuantizerOptions options;
  options.bits = unit.at("n_bits");
  options.symmetric = unit.at("quantizer") == "SymmetricUniformQuantizer";
  const std::string tag = unit.at("tag");
  if (unit.at("estimator") == "MSE_Estimator") {
    options.estimator.type = "mse";
    options.estimator.search = unit.at("mse").at("opt");
  } else if (unit.at("estimator") == "RunningMinMaxEstimator") {
    options.estimator.type = "running_minmax";
    const std::string percentile = tag.substr(tag.find('=') + 1);
    if (percentile != "None") options.estimator.percentile = std::stod(percentile);
  }
  return options;
}

std::vector<at::Tensor> data_of(const Json& unit, const Units& units) {
  const std::string name = unit.at("data");
  if (name != "running.x.0..3") return {units.tensors.at("quant.x." + name)};
  std::vector<at::Tensor> batches;
  for (int i = 0; i < 4; ++i) batches.push_back(units.tensors.at("running.x." + std::to_string(i)));
  return batches;
}

void expect_reproduced(const Json& unit, const Units& units) {
  const QuantizerOptions options = options_of(unit);
  const auto estimator = make_estimator(options);
  Quantizer quantizer("unit", options);
  at::Tensor output;
  for (const at::Tensor& batch : data_of(unit, units)) {
    estimator->observe(batch);
    output = quantizer(batch);
  }
  const Range range = estimator->range();
  EXPECT_EQ(range.min.item<double>(), unit.at("range_min").get<double>());
  EXPECT_EQ(range.max.item<double>(), unit.at("range_max").get<double>());

  const Json record = quantizer.record();
  EXPECT_EQ(record.at("scale"), unit.at("scale"));
  EXPECT_EQ(record.at("zero_point").get<double>(), unit.at("zero_point").get<double>());
  EXPECT_EQ(record.at("signed"), unit.value("signed", false));
  EXPECT_EQ(quantizer.affine().int_min, unit.at("int_min").get<double>());
  EXPECT_EQ(quantizer.affine().int_max, unit.at("int_max").get<double>());

  const at::Tensor& expected = units.tensors.at(unit.at("tensor"));
  EXPECT_TRUE(output.equal(expected));
  const at::Tensor last = data_of(unit, units).back();
  EXPECT_TRUE(fake_quantize_composed(last, quantizer.affine()).equal(expected));
}

void expect_all_reproduced(const Units& units) {
  for (const Json& unit : units.json.at("quantizers")) {
    SCOPED_TRACE(dump(unit).substr(0, 300));
    expect_reproduced(unit, units);
  }
}

TEST(QuantizerUnits, ReproducesTheCommittedReferenceCases) {
  expect_all_reproduced(read_units(committed_units_folder()));
}

TEST(QuantizerUnits, ReproducesAllReferenceCases) {
  if (!std::filesystem::exists(all_units_folder())) {
    GTEST_SKIP() << "the folder of golden values is not here: " << all_units_folder();
  }
  const Units units = read_units(all_units_folder());
  EXPECT_EQ(units.json.at("quantizers").size(), 68u);
  expect_all_reproduced(units);
}

TEST(Percentile, IsThatOfNumpy) {
  const Units units = read_units(committed_units_folder());
  const Json& expected = units.json.at("current_minmax_percentile_99");
  const at::Tensor& x = units.tensors.at("quant.x.acts");
  EXPECT_EQ(percentile(x, 99), expected.at("x_min").get<double>());  // named in swapped order there
  EXPECT_EQ(percentile(x, 1), expected.at("x_max").get<double>());
  // Interpolated from the upper neighbour, by a difference rounded to float32.
  EXPECT_EQ(percentile(at::tensor({0.126f, -0.132f}), 76), 0.06407999813556672);
}

}  // namespace
}  // namespace quench
