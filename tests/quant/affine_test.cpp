#include "quant/affine.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "base/error.h"
#include "tests/quant/units.h"

namespace quench {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

Range range(double min, double max) {
  return {on_device(at::scalar_tensor(min, at::kFloat)),
          on_device(at::scalar_tensor(max, at::kFloat))};
}

// Same values, and the same bits of zeros.
void expect_identical(const at::Tensor& actual, const at::Tensor& expected) {
  ASSERT_EQ(actual.sizes(), expected.sizes());
  EXPECT_TRUE(actual.cpu().equal(expected.cpu()));
  EXPECT_TRUE(actual.cpu().signbit().equal(expected.cpu().signbit()));
}

// The single pass over the CPU's copy of `x`, and the elementary operations on its device.
void expect_single_pass_is_composed(const at::Tensor& x, const Affine& affine) {
  expect_identical(fake_quantize(x.cpu(), affine), fake_quantize_composed(x, affine));
}

TEST(Affine, AsymmetricGridSpansTheRange) {
  const Affine affine = affine_from_range(range(-1, 3), 2, false);
  EXPECT_EQ(affine.int_min.item<double>(), 0);
  EXPECT_EQ(affine.int_max.item<double>(), 3);
  EXPECT_FALSE(affine.is_signed());
  EXPECT_EQ(affine.scale.item<float>(), 4.0f / 3);
  EXPECT_EQ(affine.zero_point.item<float>(), 1);
}

TEST(Affine, SymmetricGridIsSignedOnlyWithNegativeValues) {
  const Affine with = affine_from_range(range(-1, 3), 8, true);
  EXPECT_TRUE(with.is_signed());
  EXPECT_EQ(with.int_min.item<double>(), -128);
  EXPECT_EQ(with.int_max.item<double>(), 127);
  EXPECT_EQ(with.scale.item<float>(), 3.0f / 127);
  const Affine without = affine_from_range(range(0.5, 3), 8, true);
  EXPECT_FALSE(without.is_signed());
  EXPECT_EQ(without.int_min.item<double>(), 0);
  EXPECT_EQ(without.int_max.item<double>(), 255);
  EXPECT_EQ(without.scale.item<float>(), 3.0f / 255);
}

TEST(Affine, OneNegativeChannelMakesAllChannelsSigned) {
  const Range channels{on_device(at::tensor({0.5f, -1.0f})), on_device(at::tensor({2.0f, 1.0f}))};
  const Affine affine = affine_from_range(channels, 8, true);
  EXPECT_TRUE(affine.is_signed());
  EXPECT_TRUE(affine.scale.cpu().equal(at::tensor({2.0f, 1.0f}) / 127));
}

TEST(Affine, RangeWithoutWidthKeepsAUsableScale) {
  for (const bool symmetric : {false, true}) {
    const Affine affine = affine_from_range(range(0, 0), 8, symmetric);
    EXPECT_EQ(affine.scale.item<float>(), 1e-8f);
    EXPECT_TRUE(fake_quantize(on_device(at::zeros({3})), affine).cpu().equal(at::zeros({3})));
  }
}

TEST(Affine, IsTheSameOnAnyDevice) {
  at::manual_seed(9);
  const at::Tensor ends = at::randn({2, 1000});
  for (const auto dtype : {at::kFloat, at::kDouble}) {
    for (const bool symmetric : {false, true}) {
      const Range range{ends.amin(0).to(dtype), ends.amax(0).to(dtype)};
      const Affine here = affine_from_range(range, 8, symmetric);
      const Affine there =
          affine_from_range({on_device(range.min), on_device(range.max)}, 8, symmetric);
      for (const auto member :
           {&Affine::scale, &Affine::zero_point, &Affine::int_min, &Affine::int_max}) {
        EXPECT_TRUE((there.*member).cpu().equal(here.*member));
      }
    }
  }
}

TEST(FakeQuantize, RoundsHalfToEvenAndSaturates) {
  Affine affine = affine_from_range(range(-2, 1), 2, true);  // -2 .. 1
  affine.scale.fill_(1);
  const at::Tensor x = on_device(at::tensor({-7.0f, -1.5f, -0.5f, 0.5f, 0.75f, 1.5f, 9.0f}));
  EXPECT_TRUE(fake_quantize(x, affine).cpu().equal(
      at::tensor({-2.0f, -2.0f, 0.0f, 0.0f, 1.0f, 1.0f, 1.0f})));
}

TEST(FakeQuantize, KeepsNanAndSaturatesInfinity) {
  const Affine affine = affine_from_range(range(-1, 3), 8, false);
  const at::Tensor x = on_device(at::tensor({kNan, kInfinity, -kInfinity, 3e38f, -3e38f, 1e-45f}));
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
  const at::Tensor boundaries = (at::arange(-40, 600) + 0.5) * affine.scale.cpu();
  const at::Tensor extremes = at::tensor({0.0f, -0.0f, 1e-40f, -1e-40f, 1e30f, -1e30f, 3.4e38f,
                                          -3.4e38f, kInfinity, -kInfinity, 4e6f, -4e6f, 9e6f});
  return on_device(at::cat({random.flatten(), boundaries, extremes}).to(at::kFloat));
}

TEST(FakeQuantize, SinglePassIsTheComposedDefinition) {
  at::manual_seed(1);
  for (int bits = 2; bits <= 16; ++bits) {
    for (const bool symmetric : {false, true}) {
      for (const auto& [min, max] :
           {std::pair{-1.7, 4.1}, {0.0, 2.3}, {-3.0, -0.5}, {-1e-3, 1e-4}}) {
        SCOPED_TRACE(::testing::Message() << bits << " bits, " << min << " .. " << max);
        const Affine affine = affine_from_range(range(min, max), bits, symmetric);
        expect_single_pass_is_composed(hard_data(affine), affine);
      }
    }
  }
}

TEST(FakeQuantize, SinglePassIsTheComposedDefinitionPerChannel) {
  at::manual_seed(2);
  for (const auto& shape : {std::vector<int64_t>{19}, {19, 33}, {19, 3, 4, 5}}) {
    const at::Tensor x = on_device(at::randn(shape));
    const at::Tensor rows = x.reshape({19, -1});
    for (const bool symmetric : {false, true}) {
      const Affine affine =
          affine_from_range({rows.amin(1) * 0.8, rows.amax(1) * 0.8}, 8, symmetric);
      expect_single_pass_is_composed(x, affine);
    }
  }
}

TEST(FakeQuantize, ChannelsAreQuantizedWithTheirOwnScale) {
  const at::Tensor x = on_device(at::randn({5, 16}));
  const Range channels{x.amin(1), x.amax(1)};
  const at::Tensor y = fake_quantize(x, affine_from_range(channels, 4, false));
  for (int64_t c = 0; c < 5; ++c) {
    const Affine own = affine_from_range({channels.min[c], channels.max[c]}, 4, false);
    expect_identical(y[c], fake_quantize(x[c], own));
  }
}

TEST(FakeQuantize, TakesAnyStridesAndSizes) {
  const Affine affine = affine_from_range(range(-2, 2), 8, false);
  const at::Tensor x = on_device(at::randn({6, 40, 70}));
  const at::Tensor expected = fake_quantize_composed(x, affine);
  expect_identical(fake_quantize(x.transpose(0, 2), affine), expected.transpose(0, 2));
  expect_identical(fake_quantize(x.slice(2, 1, 70, 3), affine), expected.slice(2, 1, 70, 3));
  expect_identical(fake_quantize(x[0][0][0], affine), expected[0][0][0]);
  EXPECT_EQ(fake_quantize(on_device(at::empty({0, 4})), affine).sizes(),
            (std::vector<int64_t>{0, 4}));
  // Several tasks of the parallel loop.
  expect_single_pass_is_composed(on_device(at::randn({300, 1000})), affine);
}

TEST(FakeQuantize, Float64ScaleIsAppliedInFloat32) {
  const Range wide{on_device(at::scalar_tensor(-1.23456789012, at::kDouble)),
                   on_device(at::scalar_tensor(2.34567890123, at::kDouble))};
  const Affine affine = affine_from_range(wide, 8, false);
  EXPECT_EQ(affine.scale.scalar_type(), at::kDouble);
  const at::Tensor x = on_device(at::randn({1000}));
  const at::Tensor y = fake_quantize(x, affine);
  EXPECT_EQ(y.scalar_type(), at::kFloat);
  Affine narrow = affine;
  narrow.scale = affine.scale.to(at::kFloat);
  narrow.zero_point = affine.zero_point.to(at::kFloat);
  expect_identical(y, fake_quantize_composed(x, narrow));
}

TEST(FakeQuantize, KeepsTheDtypeOfItsInput) {
  const Affine affine = affine_from_range(range(-2, 2), 8, false);
  const at::Tensor x = on_device(at::randn({50}));
  for (const auto dtype : {at::kDouble, at::kBFloat16, at::kHalf}) {
    const at::Tensor y = fake_quantize(x.to(dtype), affine);
    EXPECT_EQ(y.scalar_type(), dtype);
    EXPECT_TRUE(at::allclose(y.to(at::kFloat), fake_quantize(x, affine), 0, 0.04));
  }
}

TEST(FakeQuantize, RefusesScalesThatDoNotFit) {
  const Range channels{on_device(at::zeros({3})), on_device(at::ones({3}))};
  const Affine affine = affine_from_range(channels, 8, false);
  EXPECT_THROW(fake_quantize(on_device(at::ones({4, 2})), affine), Error);
  EXPECT_THROW(fake_quantize_composed(on_device(at::ones({4, 3})), affine), Error);
}

}  // namespace
}  // namespace quench
