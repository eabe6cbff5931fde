#include "quant/quantizer.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"
#include "tests/quant/units.h"

namespace quench {
namespace {

QuantizerOptions running() {
  QuantizerOptions options;
  options.estimator.type = "running_minmax";
  return options;
}

template <class Action>
std::string message_of(Action action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(Quantizer, QuantizesWithTheRangeItHasJustUpdated) {
  Quantizer quantizer("q", running());
  const at::Tensor first = on_device(at::randn({100})), second = on_device(at::randn({100})) * 2;
  quantizer(first);
  const at::Tensor scale = quantizer.affine().scale;
  const at::Tensor y = quantizer(second);
  EXPECT_FALSE(quantizer.affine().scale.equal(scale));
  EXPECT_TRUE(y.equal(fake_quantize(second, quantizer.affine())));
}

TEST(Quantizer, KeepsItsRangeOnceFixed) {
  Quantizer quantizer("q", running());
  quantizer.observe(on_device(at::randn({100})));
  quantizer.fix();
  const Json record = quantizer.record();
  const at::Tensor other = on_device(at::randn({100})) * 5;
  EXPECT_TRUE(quantizer(other).equal(fake_quantize(other, quantizer.affine())));
  EXPECT_EQ(quantizer.record(), record);
  EXPECT_THROW(quantizer.observe(other), Error);
}

TEST(Quantizer, SixteenBitsAreAlmostExact) {
  QuantizerOptions options = running();
  options.bits = 16;
  const at::Tensor x = on_device(at::randn({1000}));
  const at::Tensor error = (Quantizer("q", options)(x) - x).abs().max();
  EXPECT_LT(error.item<float>(), 1e-4);
  EXPECT_GT(error.item<float>(), 0);
}

TEST(Quantizer, RecordsNumbersOrListsPerChannel) {
  QuantizerOptions options;
  options.symmetric = true;
  Quantizer per_tensor("w", options);
  per_tensor.observe(on_device(at::tensor({-1.27f, 0.5f})));
  EXPECT_EQ(per_tensor.record(), (Json{{"name", "w"},
                                       {"bits", 8},
                                       {"symmetric", true},
                                       {"signed", true},
                                       {"scale", static_cast<double>(1.27f / 127)},
                                       {"zero_point", 0.0}}));
  options.granularity = "per_channel";
  Quantizer per_channel("w", options);
  per_channel.observe(on_device(at::tensor({-1.27f, 12.7f})).reshape({2, 1}));
  EXPECT_EQ(per_channel.record().at("scale"), (Json{1.27f / 127, 12.7f / 127}));
  EXPECT_EQ(per_channel.record().at("zero_point"), (Json{0.0, 0.0}));
}

TEST(Quantizer, NamesItselfInErrors) {
  Quantizer quantizer("layers.0.ffn.output", running()), met("layers.0.ffn.output", running());
  const at::Tensor bad = on_device(at::ones({4}));
  bad[2] = std::numeric_limits<float>::quiet_NaN();
  for (const std::string& message :
       {message_of([&] { met(bad), met.fix(); }), message_of([&] { quantizer(at::empty({0})); }),
        message_of([&] { quantizer.fix(); }), message_of([&] { quantizer.record(); })}) {
    EXPECT_NE(message.find("layers.0.ffn.output"), std::string::npos) << message;
  }
}

// A tensor of the meta device has a shape and no numbers: whoever reads one throws.
TEST(Quantizer, ReadsNoNumberOfADeviceWhileItEstimates) {
  const at::Tensor x = at::empty({3, 4, 5}, at::TensorOptions(at::kMeta).dtype(at::kFloat));
  for (const char* type : {"minmax", "running_minmax"}) {
    for (const bool symmetric : {false, true}) {
      QuantizerOptions options;
      options.estimator.type = type;
      options.symmetric = symmetric;
      options.granularity = "per_channel";
      Quantizer per_channel("q", options);
      options.granularity = "per_tensor";
      Quantizer extremes("q", options);
      options.estimator.percentile = 99;
      Quantizer percentiles("q", options);
      for (Quantizer* quantizer : {&per_channel, &extremes, &percentiles}) {
        for (int batch = 0; batch < 2; ++batch) EXPECT_EQ((*quantizer)(x).sizes(), x.sizes());
        EXPECT_ANY_THROW(quantizer->fix());
      }
    }
  }
}

TEST(Quantizer, SaysThatAnyOfItsTensorsWasNotFinite) {
  QuantizerOptions options;
  options.estimator.percentile = 90;  // which infinities are beyond
  Quantizer quantizer("q", options);
  at::Tensor bad = at::ones({4, 10});
  bad[2][3] = std::numeric_limits<float>::infinity();
  EXPECT_EQ(message_of([&] {
              quantizer.observe(on_device(bad));
              quantizer.observe(on_device(at::ones({4, 10})));
              quantizer.fix();
            }),
            "quantizer q: cannot estimate a range from a tensor of shape [4, 10] with values that "
            "are not finite (min 1, max inf); perhaps training has diverged");
}

TEST(Quantizer, RefusesOptionsOutOfRange) {
  QuantizerOptions options;
  options.bits = 1;
  EXPECT_THROW(Quantizer("q", options), UsageError);
  options.bits = 17;
  EXPECT_THROW(Quantizer("q", options), UsageError);
  options = {};
  options.granularity = "per_row";
  EXPECT_THROW(Quantizer("q", options), UsageError);
  options = {};
  options.estimator.type = "median";
  const std::string message = message_of([&] { Quantizer("layers.3", options); });
  EXPECT_NE(message.find("layers.3"), std::string::npos) << message;
  EXPECT_NE(message.find("running_minmax"), std::string::npos) << message;
}

}  // namespace
}  // namespace quench
