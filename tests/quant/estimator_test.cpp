#include "quant/estimator.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"
#include "quant/percentile.h"
#include "tests/quant/units.h"

namespace quench {
namespace {

QuantizerOptions options(const std::string& type, bool symmetric = false, int64_t bits = 8) {
  QuantizerOptions result;
  result.bits = bits;
  result.symmetric = symmetric;
  result.estimator.type = type;
  return result;
}

Range observe(const QuantizerOptions& options, const std::vector<at::Tensor>& batches) {
  const auto estimator = make_estimator(options);
  for (const at::Tensor& batch : batches) estimator->observe(on_device(batch));
  return estimator->range();
}

void expect_range(const Range& range, double min, double max) {
  EXPECT_EQ(range.min.item<double>(), min);
  EXPECT_EQ(range.max.item<double>(), max);
}

double squared_error(const at::Tensor& data, const Range& range, const QuantizerOptions& options) {
  const at::Tensor x = on_device(data);
  const Affine affine = affine_from_range(range, options.bits, options.symmetric);
  return (x - fake_quantize(x, affine)).square().sum().item<double>();
}

TEST(MinMax, IsThatOfTheLastTensor) {
  expect_range(observe(options("minmax"), {at::tensor({-9.0f, 9.0f}), at::tensor({-1.0f, 2.0f})}),
               -1, 2);
}

TEST(MinMax, TakesPercentilesOfTheData) {
  QuantizerOptions p = options("minmax");
  p.estimator.percentile = 90;
  expect_range(observe(p, {at::arange(0, 101, at::kFloat)}), 10, 90);
}

TEST(RunningMinMax, AveragesWithMomentum) {
  QuantizerOptions half = options("running_minmax");
  half.estimator.momentum = 0.5;
  expect_range(observe(half, {at::tensor({-4.0f, 8.0f}), at::tensor({-2.0f, 2.0f})}), -3, 5);
}

TEST(RunningMinMax, AveragesEachChannelOnItsOwn) {
  QuantizerOptions per_channel = options("running_minmax");
  per_channel.granularity = "per_channel";
  per_channel.estimator.momentum = 0.5;
  const at::Tensor first = at::tensor({-4.0f, 8.0f, 0.0f, 1.0f}).reshape({2, 1, 2});
  const Range range = observe(per_channel, {first, first * 3});
  EXPECT_TRUE(range.min.cpu().equal(at::tensor({-8.0f, 0.0f})));
  EXPECT_TRUE(range.max.cpu().equal(at::tensor({16.0f, 2.0f})));
}

TEST(Percentile, InterpolatesBetweenNeighbours) {
  const auto of = [](std::vector<float> values, double percent) {
    return percentiles(on_device(at::tensor(values)), {percent}).item<double>();
  };
  const std::vector<float> x{40, 10, 30, 20};
  EXPECT_EQ(of(x, 0), 10);
  EXPECT_EQ(of(x, 50), 25);
  EXPECT_EQ(of(x, 90), 37);
  EXPECT_EQ(of(x, 100), 40);
  EXPECT_EQ(of({7}, 99.9), 7);
  EXPECT_THROW(of({}, 50), Error);
  EXPECT_THROW(of(x, 101), Error);
}

TEST(Percentile, SortingOnTheCpuIsTheComposedDefinition) {
  at::manual_seed(10);
  const std::vector<double> percents{0, 0.001, 1, 49.9, 50, 76, 99, 99.999, 100};
  for (const int64_t size : {1, 2, 3, 1000, 30011}) {
    const at::Tensor x = at::randn({size, 2}).transpose(0, 1);
    EXPECT_TRUE(percentiles_composed(on_device(x), percents).cpu().equal(percentiles(x, percents)));
  }
}

// Every search must beat the plain range where the data has an outlier worth clipping.
TEST(Mse, ClipsWhatDoesNotPay) {
  at::manual_seed(3);
  const at::Tensor x = at::randn({64, 128});
  x[5][7] = 9;
  for (const std::string search : {"grid", "golden_section"}) {
    for (const bool symmetric : {false, true}) {
      for (const at::Tensor& data : {x, x.abs()}) {
        QuantizerOptions mse = options("mse", symmetric, 4);
        mse.estimator.search = search;
        const Range range = observe(mse, {data});
        EXPECT_LT(range.max.item<double>(), 6);
        EXPECT_LT(squared_error(data, range, mse),
                  0.5 * squared_error(data, min_max(on_device(data), false), mse));
      }
    }
  }
}

TEST(Mse, AutoSearchesAGridOnlyWhereSymmetric) {
  at::manual_seed(4);
  for (const at::Tensor& data : {at::randn({8, 32}), at::rand({8, 32})}) {
    for (const bool symmetric : {false, true}) {
      QuantizerOptions explicit_search = options("mse", symmetric, 4);
      explicit_search.estimator.search = symmetric ? "grid" : "golden_section";
      const Range expected = observe(explicit_search, {data});
      const Range range = observe(options("mse", symmetric, 4), {data});
      EXPECT_TRUE(range.min.equal(expected.min));
      EXPECT_TRUE(range.max.equal(expected.max));
    }
  }
}

TEST(Mse, GridAddsUpLossesOverTensors) {
  at::manual_seed(5);
  const at::Tensor first = at::randn({16, 64}), second = at::randn({16, 64}) * 0.1;
  const QuantizerOptions mse = options("mse", true, 4);
  const at::Tensor together = at::cat({first, second, second});
  EXPECT_EQ(observe(mse, {first, second, second}).max.item<float>(),
            observe(mse, {together}).max.item<float>());
  EXPECT_LT(observe(mse, {second}).max.item<float>(), 0.5);
}

TEST(Mse, GoldenSectionForgetsEarlierTensors) {
  at::manual_seed(6);
  const at::Tensor first = at::randn({16, 64}), second = at::randn({16, 64}) * 0.1;
  EXPECT_GT(observe(options("mse", false, 4), {first}).max.item<double>(), 1);
  EXPECT_LT(observe(options("mse", false, 4), {first, second}).max.item<double>(), 0.5);
}

TEST(Mse, SearchesEachChannelOnItsOwn) {
  at::manual_seed(7);
  const at::Tensor x = at::randn({3, 200}) * at::tensor({0.2f, 1.0f, 4.0f}).reshape({3, 1});
  for (const bool symmetric : {false, true}) {
    QuantizerOptions mse = options("mse", symmetric, 4);
    mse.granularity = "per_channel";
    const Range range = observe(mse, {x});
    EXPECT_EQ(range.max.sizes(), (std::vector<int64_t>{3}));
    EXPECT_LT(range.max[0].item<float>(), range.max[1].item<float>());
    EXPECT_LT(range.max[1].item<float>(), range.max[2].item<float>());
    mse.granularity = "per_tensor";
    EXPECT_LT(range.max[0].item<float>(), observe(mse, {x}).max.item<float>());
  }
}

TEST(Mse, TakesVectorsAndBlocksLargerThanTheCache) {
  at::manual_seed(8);
  const QuantizerOptions mse = options("mse", true, 4);
  EXPECT_GT(observe(mse, {at::rand({50}) + 0.5}).max.item<float>(), 1);
  const at::Tensor large = at::randn({33, 5000});
  const Range range = observe(mse, {large});
  const Range wider{range.min * 1.2, range.max * 1.2}, narrower{range.min / 1.2, range.max / 1.2};
  EXPECT_LT(squared_error(large, range, mse), squared_error(large, wider, mse));
  EXPECT_LT(squared_error(large, range, mse), squared_error(large, narrower, mse));
}

TEST(Estimators, TakeConstantTensors) {
  for (const std::string& type : estimator_names()) {
    for (const bool symmetric : {false, true}) {
      for (const double value : {0.0, 2.0, -2.0}) {
        SCOPED_TRACE(::testing::Message() << type << symmetric << value);
        const at::Tensor x = on_device(at::full({4, 8}, value));
        const QuantizerOptions constant = options(type, symmetric);
        const Range range = observe(constant, {x});
        const Affine affine = affine_from_range(range, 8, symmetric);
        EXPECT_TRUE(at::allclose(fake_quantize(x, affine), x, 0, 0.02));
      }
    }
  }
}

TEST(Estimators, RefuseEmptyAndNonFiniteTensors) {
  for (const std::string& type : estimator_names()) {
    const auto estimator = make_estimator(options(type));
    EXPECT_THROW(estimator->observe(on_device(at::empty({0, 4}))), Error);
    for (const double bad :
         {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
      at::Tensor x = at::ones({100});
      x[50] = bad;
      x = on_device(x);
      EXPECT_THROW((estimator->observe(x), estimator->check()), Error);
    }
  }
}

TEST(Estimators, RefuseOptionsTheyDoNotHave) {
  QuantizerOptions bad = options("median");
  EXPECT_THROW(make_estimator(bad), UsageError);
  bad = options("mse");
  bad.estimator.percentile = 99;
  EXPECT_THROW(make_estimator(bad), UsageError);
  bad = options("mse");
  bad.estimator.search = "random";
  EXPECT_THROW(make_estimator(bad), UsageError);
  bad = options("running_minmax");
  bad.estimator.percentile = 99;
  bad.granularity = "per_channel";
  EXPECT_THROW(make_estimator(bad), UsageError);
  bad.granularity = "per_tensor";
  bad.estimator.percentile = 0.999;
  EXPECT_THROW(make_estimator(bad), UsageError);
}

}  // namespace
}  // namespace quench
