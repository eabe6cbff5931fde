#include "data/image/batcher.h"

#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "support.h"

namespace quench::testing_images {
namespace {

ImageOptions small_options() {
  ImageOptions options;
  options.image_size = 24;
  options.erase_probability = 0.5;
  return options;
}

std::vector<int64_t> first_indices(int64_t count) {
  std::vector<int64_t> indices(count);
  std::iota(indices.begin(), indices.end(), 0);
  return indices;
}

TEST(ImageBatcher, ThreadsDoNotChangeAValue) {
  const ImageSourcePtr source = synthetic_images(32, 10, 40, 1);
  const auto indices = first_indices(16);
  const ImageBatcher one(source, small_options(), 1), many(source, small_options(), 5);
  for (uint64_t step = 0; step < 6; ++step) {
    const ImageBatch a = one.training_batch({9, step, 0}, indices);
    const ImageBatch b = many.training_batch({9, step, 0}, indices);
    EXPECT_EQ(a.pixel_values, b.pixel_values);
    EXPECT_EQ(a.targets, b.targets);
    EXPECT_EQ(a.labels, b.labels);
  }
}

TEST(ImageBatcher, PartsOfABatchEqualTheWhole) {
  const ImageSourcePtr source = synthetic_images(32, 10, 40, 1);
  const ImageBatcher batcher(source, small_options(), 2);
  const auto indices = first_indices(12);
  for (uint64_t step = 0; step < 6; ++step) {
    const ImageBatch whole = batcher.training_batch({9, step, 0}, indices);
    const ImageBatch head = batcher.training_batch({9, step, 0}, std::span(indices).first(4));
    const ImageBatch tail = batcher.training_batch({9, step, 4}, std::span(indices).subspan(4));
    std::vector<float> pixels = head.pixel_values, targets = head.targets;
    pixels.insert(pixels.end(), tail.pixel_values.begin(), tail.pixel_values.end());
    targets.insert(targets.end(), tail.targets.begin(), tail.targets.end());
    EXPECT_EQ(pixels, whole.pixel_values);
    EXPECT_EQ(targets, whole.targets);
  }
}

TEST(ImageBatcher, SeedStepAndPositionChangeThePictures) {
  ImageOptions options = small_options();
  options.mixup_alpha = options.cutmix_alpha = 0;
  const ImageBatcher batcher(synthetic_images(4, 2, 40, 1), options, 1);
  const auto pixels = [&](BatchKey key) {
    return batcher.training_batch(key, first_indices(1)).pixel_values;
  };
  EXPECT_EQ(pixels({1, 2, 3}), pixels({1, 2, 3}));
  EXPECT_NE(pixels({1, 2, 3}), pixels({2, 2, 3}));
  EXPECT_NE(pixels({1, 2, 3}), pixels({1, 3, 3}));
  EXPECT_NE(pixels({1, 2, 3}), pixels({1, 2, 4}));
}

TEST(ImageBatcher, EvaluationCropsAndNormalizesOnly) {
  TempFolder folder;
  folder.copy(golden_path("input.png"), "a/0.png");
  folder.copy(golden_path("input.png"), "b/0.png");
  ImageOptions options;
  options.image_size = 17;
  const ImageBatcher batcher(image_folder(folder.path()), options, 2);
  const ImageBatch batch = batcher.evaluation_batch(std::vector<int64_t>{1, 0, 1});
  EXPECT_EQ(batch.labels, (std::vector<int64_t>{1, 0, 1}));
  EXPECT_TRUE(batch.targets.empty());
  const Image expected = golden("evaluation_17.png");
  ASSERT_EQ(batch.pixel_values.size(), 3 * expected.rgb.size());
  for (size_t i = 0; i < expected.rgb.size(); ++i) {
    const float value = static_cast<float>(expected.rgb[i]) / 255.0f;
    EXPECT_NEAR(batch.pixel_values[(i % 3) * 17 * 17 + i / 3], (value - 0.5f) / 0.5f, 1e-6f);
  }
}

TEST(ImageBatcher, EveryStepMixesAnew) {
  const ImageBatcher batcher(synthetic_images(4, 4, 40, 1), small_options(), 1);
  std::set<std::vector<float>> distinct;
  for (uint64_t step = 0; step < 8; ++step) {
    distinct.insert(batcher.training_batch({1, step, 0}, first_indices(2)).targets);
  }
  EXPECT_GT(distinct.size(), 6u);
}

class CorruptPicture : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_.write("a/0.jpg", std::vector<uint8_t>{0xFF, 0xD8, 0xFF, 0xE0});
    folder_.copy(golden_path("rgb.jpg"), "b/0.jpg");
    options_.image_size = 8;
  }
  TempFolder folder_;
  ImageOptions options_;
};

TEST_F(CorruptPicture, EndsTheRunByDefault) {
  const ImageBatcher batcher(image_folder(folder_.path()), options_, 3);
  EXPECT_TRUE(mentions(error_of([&] {
                         batcher.evaluation_batch(std::vector<int64_t>{1, 0});
                       }),
                       {"a/0.jpg: cannot decode this JPEG"}));
}

TEST_F(CorruptPicture, GivesWayToTheNextWhenAsked) {
  const ImageBatcher batcher(image_folder(folder_.path()), options_, 3, OnError::kSkip);
  const std::vector<int64_t> indices = {0, 1};
  EXPECT_EQ(batcher.training_batch({}, indices).labels, (std::vector<int64_t>{1, 1}));
  EXPECT_EQ(batcher.evaluation_batch(indices).labels, (std::vector<int64_t>{-100, 1}))
      << "no picture counts twice";
}

TEST_F(CorruptPicture, IsAnErrorWhenNothingIsReadable) {
  folder_.write("b/0.jpg", std::vector<uint8_t>{0xFF, 0xD8, 0xFF});
  const ImageBatcher batcher(image_folder(folder_.path()), options_, 1, OnError::kSkip);
  EXPECT_NE(error_of([&] { batcher.evaluation_batch(std::vector<int64_t>{0}); }), "");
}

TEST(ImageBatcher, RefusesWhatCannotBe) {
  const ImageBatcher batcher(synthetic_images(4, 2, 16, 1), small_options(), 1);
  EXPECT_TRUE(
      mentions(error_of([&] { batcher.training_batch({}, first_indices(3)); }), {"even numbers"}));
  EXPECT_TRUE(mentions(error_of([&] { batcher.evaluation_batch(std::vector<int64_t>{4}); }),
                       {"image 4 of a source of 4"}));
}

}  // namespace
}  // namespace quench::testing_images
