#include "quant/affine.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"

namespace quench {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Range range(double min, double max) {
  return {at::scalar_tensor(min, at::kFloat), at::scalar_tensor(max, at::kFloat)};
}

// Same values, and the same bits of zeros.
void expect_identical(const at::Tensor& actual, const at::Tensor& expected) {
  ASSERT_EQ(actual.sizes(), expected.sizes());
  EXPECT_TRUE(actual.equal(expected));
  EXPECT_TRUE(actual.signbit().equal(expected.signbit()));
}

TEST(Affine, AsymmetricGridSpansTheRange) {
  const Affine affine = affine_from_range(range(-1, 3), 2, false);
  EXPECT_EQ(affine.int_min, 0);
  EXPECT_EQ(affine.int_max, 3);
  EXPECT_FALSE(affine.is_signed);
  EXPECT_EQ(affine.scale.item<float>(), 4.0f / 3);
  EXPECT_EQ(affine.zero_point.item<float>(), 1);
}

TEST(Affine, SymmetricGridIsSignedOnlyWithNegativeValues) {
  const Affine with = affine_from_range(range(-1, 3), 8, true);
  EXPECT_TRUE(with.is_signed);
  EXPECT_EQ(with.int_min, -128);
  EXPECT_EQ(with.int_max, 127);
  EXPECT_EQ(with.scale.item<float>(), 3.0f / 127);
  const Affine without = affine_from_range(range(0.5, 3), 8, true);
  EXPECT_FALSE(without.is_signed);
  EXPECT_EQ(without.int_min, 0);
  EXPECT_EQ(without.int_max, 255);
  EXPECT_EQ(without.scale.item<float>(), 3.0f / 255);
}

TEST(Affine, OneNegativeChannelMakesAllChannelsSigned) {
  const Range channels{at::tensor({0.5f, -1.0f}), at::tensor({2.0f, 1.0f})};
  const Affine affine = affine_from_range(channels, 8, true);
  EXPECT_TRUE(affine.is_signed);
  EXPECT_TRUE(affine.scale.equal(at::tensor({2.0f, 1.0f}) / 127));
}

TEST(Affine, RangeWithoutWidthKeepsAUsableScale) {
  for (const bool symmetric : {false, true}) {
    const Affine affine = affine_from_range(range(0, 0), 8, symmetric);
    EXPECT_EQ(affine.scale.item<float>(), 1e-8f);
    EXPECT_TRUE(fake_quantize(at::zeros({3}), affine).equal(at::zeros({3})));
  }
}

TEST(FakeQuantize, RoundsHalfToEvenAndSaturates) {
  Affine affine = affine_from_range(range(-2, 1), 2, true);  // -2 .. 1
  affine.scale.fill_(1);
  const at::Tensor x = at::tensor({-7.0f, -1.5f, -0.5f, 0.5f, 0.75f, 1.5f, 9.0f});
  EXPECT_TRUE(
      fake_quantize(x, affine).equal(at::tensor({-2.0f, -2.0f, 0.0f, 0.0f, 1.0f, 1.0f, 1.0f})));
}

TEST(FakeQuantize, KeepsNanAndSaturatesInfinity) {
  const Affine affine = affine_from_range(range(-1, 3), 8, false);
  const at::Tensor x = at::tensor({kNan, kInfinity, -kInfinity, 3e38f, -3e38f, 1e-45f});
  for (const at::Tensor& y : {fake_quantize(x, affine), fake_quantize_composed(x, affine)}) {
    EXPECT_TRUE(std::isnan(y[0].item<float>()));
    EXPECT_TRUE(y[1].equal(y[3]));
    EXPECT_TRUE(y[2].equal(y[4]));
    EXPECT_NEAR(y[1].item<float>(), 3, 0.01);
    EXPECT_NEAR(y[2].item<float>(), -1, 0.01);
    EXPECT_EQ(y[5].item<float>(), 0);
  }
}

// Data beyond the range, on rounding boundaries, tiny and huge.
at::Tensor hard_data(const Affine& affine) {
  const at::Tensor random = at::randn({64, 37}) * 3;
  const at::Tensor boundaries = (at::arange(-40, 600) + 0.5) * affine.scale.reshape({-1})[0];
  const at::Tensor extremes = at::tensor({0.0f, -0.0f, 1e-40f, -1e-40f, 1e30f, -1e30f, 3.4e38f,
                                          -3.4e38f, kInfinity, -kInfinity, 4e6f, -4e6f, 9e6f});
  return at::cat({random.flatten(), boundaries, extremes}).to(at::kFloat);
}

TEST(FakeQuantize, SinglePassIsTheComposedDefinition) {
  at::manual_seed(1);
  for (int bits = 2; bits <= 16; ++bits) {
    for (const bool symmetric : {false, true}) {
      for (const auto& [min, max] :
           {std::pair{-1.7, 4.1}, {0.0, 2.3}, {-3.0, -0.5}, {-1e-3, 1e-4}}) {
        SCOPED_TRACE(testing::Message() << bits << " bits, " << min << " .. " << max);
        const Affine affine = affine_from_range(range(min, max), bits, symmetric);
        const at::Tensor x = hard_data(affine);
        expect_identical(fake_quantize(x, affine), fake_quantize_composed(x, affine));
      }
    }
  }
}

TEST(FakeQuantize, SinglePassIsTheComposedDefinitionPerChannel) {
  at::manual_seed(2);
  for (const auto& shape : {std::vector<int64_t>{19}, {19, 33}, {19, 3, 4, 5}}) {
    const at::Tensor x = at::randn(shape);
    const at::Tensor rows = x.reshape({19, -1});
    for (const bool symmetric : {false, true}) {
      const Affine affine =
          affine_from_range({rows.amin(1) * 0.8, rows.amax(1) * 0.8}, 8, symmetric);
      expect_identical(fake_quantize(x, affine), fake_quantize_composed(x, affine));
    }
  }
}

TEST(FakeQuantize, ChannelsAreQuantizedWithTheirOwnScale) {
  const at::Tensor x = at::randn({5, 16});
  const Range channels{x.amin(1), x.amax(1)};
  const at::Tensor y = fake_quantize(x, affine_from_range(channels, 4, false));
  for (int64_t c = 0; c < 5; ++c) {
    const Affine own = affine_from_range({channels.min[c], channels.max[c]}, 4, false);
    expect_identical(y[c], fake_quantize(x[c], own));
  }
}

TEST(FakeQuantize, TakesAnyStridesAndSizes) {
  const Affine affine = affine_from_range(range(-2, 2), 8, false);
  const at::Tensor x = at::randn({6, 40, 70});
  const at::Tensor expected = fake_quantize_composed(x, affine);
  expect_identical(fake_quantize(x.transpose(0, 2), affine), expected.transpose(0, 2));
  expect_identical(fake_quantize(x.slice(2, 1, 70, 3), affine), expected.slice(2, 1, 70, 3));
  expect_identical(fake_quantize(x[0][0][0], affine), expected[0][0][0]);
  EXPECT_EQ(fake_quantize(at::empty({0, 4}), affine).sizes(), (std::vector<int64_t>{0, 4}));
  const at::Tensor large = at::randn({300, 1000});  // several tasks of the parallel loop
  expect_identical(fake_quantize(large, affine), fake_quantize_composed(large, affine));
}

TEST(FakeQuantize, Float64ScaleIsAppliedInFloat32) {
  const Range wide{at::scalar_tensor(-1.23456789012, at::kDouble),
                   at::scalar_tensor(2.34567890123, at::kDouble)};
  const Affine affine = affine_from_range(wide, 8, false);
  EXPECT_EQ(affine.scale.scalar_type(), at::kDouble);
  const at::Tensor x = at::randn({1000});
  const at::Tensor y = fake_quantize(x, affine);
  EXPECT_EQ(y.scalar_type(), at::kFloat);
  Affine narrow = affine;
  narrow.scale = affine.scale.to(at::kFloat);
  narrow.zero_point = affine.zero_point.to(at::kFloat);
  expect_identical(y, fake_quantize_composed(x, narrow));
}

TEST(FakeQuantize, KeepsTheDtypeOfItsInput) {
  const Affine affine = affine_from_range(range(-2, 2), 8, false);
  const at::Tensor x = at::randn({50});
  for (const auto dtype : {at::kDouble, at::kBFloat16, at::kHalf}) {
    const at::Tensor y = fake_quantize(x.to(dtype), affine);
    EXPECT_EQ(y.scalar_type(), dtype);
    EXPECT_TRUE(at::allclose(y.to(at::kFloat), fake_quantize(x, affine), 0, 0.04));
  }
}

TEST(FakeQuantize, RefusesScalesThatDoNotFit) {
  const Affine affine = affine_from_range({at::zeros({3}), at::ones({3})}, 8, false);
  EXPECT_THROW(fake_quantize(at::ones({4, 2}), affine), Error);
  EXPECT_THROW(fake_quantize_composed(at::ones({4, 3}), affine), Error);
}

}  // namespace
}  // namespace quench
