// Which batches calibrate, and when numbers are read.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "data/sampler.h"
#include "ptq/ptq.h"
#include "tests/io/temporary_folder.h"
#include "tests/models/tiny_source.h"
#include "tests/support/golden.h"

namespace quench {
namespace {

class Calibrate : public ::testing::Test {
 protected:
  Calibrate() {
    model_.model->parameters.to(testing::device(), at::kFloat);
    ptq_.calibration.batch_size = 3;
    ptq_.calibration.batches = 4;
    ptq_.seed = 5;
  }
  void calibrate(const TinySource& source) const {
    FakeQuantizer quantizer(ptq_, model_.config->traits());
    quench::calibrate(model_, source, ptq_, testing::device(), {&quantizer, 1});
  }

  Pretrained model_ = tiny_bert();
  PtqConfig ptq_;
};

TEST_F(Calibrate, DrawsItsBatchesFromTheEndlessStream) {
  const TinySource source(7);
  calibrate(source);
  ASSERT_EQ(source.requests().size(), 4u);
  const Sampler sampler(7, 5, /*shuffle=*/true);
  for (int64_t b = 0; b < 4; ++b) {
    const TinySource::Request& request = source.requests()[static_cast<size_t>(b)];
    EXPECT_EQ(request.positions, (std::vector<int64_t>{3 * b, 3 * b + 1, 3 * b + 2}));
    for (size_t i = 0; i < 3; ++i)
      EXPECT_EQ(request.samples[i], sampler.index(request.positions[i]));
    EXPECT_EQ(request.seed, 5u);
    EXPECT_EQ(request.step, b);
    EXPECT_FALSE(request.training);
    EXPECT_NE(request.thread, std::this_thread::get_id());
  }
}

TEST_F(Calibrate, InOrderReadsTheDataOnce) {
  ptq_.calibration.shuffle = false;
  for (const int64_t samples : {6, 7}) {
    const TinySource source(samples);
    calibrate(source);
    std::vector<int64_t> read;
    for (const TinySource::Request& request : source.requests())
      read.insert(read.end(), request.samples.begin(), request.samples.end());
    EXPECT_EQ(read.size(), static_cast<size_t>(samples));
    EXPECT_TRUE(std::ranges::is_sorted(read));
  }
  const TinySource more(20);
  calibrate(more);
  EXPECT_EQ(more.requests().size(), 4u);
  EXPECT_EQ(more.requests().back().samples, (std::vector<int64_t>{9, 10, 11}));
}

// A tensor of the meta device has a shape and no numbers: whoever reads one throws.
TEST_F(Calibrate, ReadsNoNumberOfADeviceBeforeItsEnd) {
  FakeQuantizer quantizer(ptq_, model_.config->traits());
  const at::Tensor x = at::empty({2, 3}, at::TensorOptions(at::kMeta).dtype(at::kFloat));
  quantizer.weight("bert.encoder.layer.0.intermediate.dense.weight", x);
  quantizer.activation("layers.0.ffn.output", x);
  EXPECT_ANY_THROW(quantizer.fix());
}

TEST_F(Calibrate, NeitherPlacementQuantizesWhatTheActivationIsAppliedTo) {
  for (const char* placement : {"reference", "full"}) {
    ptq_.placement = placement;
    const FakeQuantizer quantizer(ptq_, model_.config->traits());
    EXPECT_FALSE(quantizer.wants("layers.0.ffn.pre_activation"));
    EXPECT_TRUE(quantizer.wants("layers.0.ffn.intermediate"));
  }
}

TEST_F(Calibrate, SaysWhichSampleCannotBeRead) {
  ptq_.calibration.shuffle = false;
  EXPECT_EQ(error_of([&] { calibrate(TinySource(9, 7)); }), "cannot read sample 7");
}

}  // namespace
}  // namespace quench
