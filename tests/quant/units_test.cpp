// Every figure here is compared exactly: losses are summed in the reference's order, so that grid
// search and golden section take the same decisions, and the arithmetic is the same float32.
// Another device sums losses in an order of its own: there a search may end in another of
// near-equal minima.
#include <gtest/gtest.h>

#include <cmath>
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
  const bool exact = testing::device().is_cpu() || options.estimator.type != "mse";
  const double spread = exact ? 0 : 0.11;
  const auto expect = [&](double actual, const char* name, double size) {
    EXPECT_NEAR(actual, unit.at(name).get<double>(), spread * size) << name;
  };
  const Range range = estimator->range();
  const double width = (range.max - range.min).item<double>();
  expect(range.min.item<double>(), "range_min", width);
  expect(range.max.item<double>(), "range_max", width);

  const Json record = quantizer.record();
  expect(record.at("scale"), "scale", record.at("scale"));
  expect(record.at("zero_point"), "zero_point", std::exp2(options.bits));
  EXPECT_EQ(record.at("signed"), unit.value("signed", false));
  EXPECT_EQ(quantizer.affine().int_min.item<double>(), unit.at("int_min").get<double>());
  EXPECT_EQ(quantizer.affine().int_max.item<double>(), unit.at("int_max").get<double>());

  const at::Tensor last = data_of(unit, units).back();
  const at::Tensor expected = exact ? units.tensors.at(unit.at("tensor"))
                                    : on_device(fake_quantize(last.cpu(), quantizer.affine()));
  EXPECT_TRUE(output.equal(expected));
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
  const at::Tensor ends = percentiles(x, {99, 1});
  // Named in swapped order there.
  EXPECT_EQ(ends[0].item<double>(), expected.at("x_min").get<double>());
  EXPECT_EQ(ends[1].item<double>(), expected.at("x_max").get<double>());
  // Interpolated from the upper neighbour, by a difference rounded to float32.
  const at::Tensor two = on_device(at::tensor({0.126f, -0.132f}));
  EXPECT_EQ(percentiles(two, {76}).item<double>(), 0.06407999813556672);
}

}  // namespace
}  // namespace quench
