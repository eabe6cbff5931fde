#include "data/image/augment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "support.h"

namespace quench::testing_images {
namespace {

constexpr std::array<uint8_t, 3> kFill{124, 116, 104};

Image part(const Image& strip, int index, int height) {
  Image out(strip.width, height);
  std::copy_n(strip.row(index * height), out.rgb.size(), out.rgb.begin());
  return out;
}

TEST(RandAugment, EveryOperationEqualsTimm) {
  const Image input = golden("input.png"), strip = golden("rand_ops.png");
  int index = 0;
  for (int op = 0; op < kRandOps; ++op) {
    const auto apply = [&](double level, bool negate, Interpolation filter) {
      EXPECT_EQ(apply_rand_op(input, static_cast<RandOp>(op), level, negate, filter, kFill),
                part(strip, index++, input.height))
          << "operation " << op << " at level " << level;
    };
    apply(9.0, false, Interpolation::kBicubic);
    apply(4.3, true, Interpolation::kBilinear);
    apply(10.0, true, Interpolation::kBicubic);
  }
  EXPECT_EQ(index * input.height, strip.height);
}

TEST(RandAugment, AppliesHalfOfItsOperations) {
  ImageOptions options;
  options.randaugment_ops = 1;
  const Image input = golden("input.png");
  int unchanged = 0;
  for (uint64_t i = 0; i < 400; ++i) {
    CounterRng rng({i});
    unchanged += rand_augment(input, options, rng) == input;
  }
  EXPECT_NEAR(unchanged, 200, 45);
}

TEST(RandAugment, LevelsVaryOnlyWithTheirDeviation) {
  const auto outcomes = [](double deviation) {
    ImageOptions options;
    options.randaugment_ops = 1;
    options.randaugment_std = deviation;
    std::set<std::string> distinct;
    for (uint64_t i = 0; i < 600; ++i) {
      CounterRng rng({i});
      distinct.insert(key_of(rand_augment(golden("input.png"), options, rng)));
    }
    return distinct.size();
  };
  // Five geometric operations in two filters and two signs, four enhancements in two signs, the
  // rest one.
  EXPECT_LE(outcomes(0.0), 5u * 4 + 4 * 2 + 6 + 1);
  EXPECT_GT(outcomes(0.5), 100u);
}

TEST(RandomCropBox, IsNeverEmpty) {
  const std::array<double, 2> scale{0.08, 1.0}, ratio{0.75, 4.0 / 3.0};
  for (uint64_t i = 0; i < 500; ++i) {
    CounterRng rng({i});
    for (const auto& [width, height] : {std::pair{2, 1}, {1, 2}, {2, 2}}) {
      const Box box = random_crop_box(width, height, scale, ratio, rng);
      EXPECT_TRUE(box.width >= 1 && box.height >= 1);
    }
  }
}

TEST(RandomCropBox, CoversTheAskedAreasAndRatios) {
  const std::array<double, 2> scale{0.08, 1.0}, ratio{0.75, 4.0 / 3.0};
  double smallest = 1, largest = 0, narrowest = 9, widest = 0;
  for (uint64_t i = 0; i < 2000; ++i) {
    CounterRng rng({i});
    const Box box = random_crop_box(640, 480, scale, ratio, rng);
    ASSERT_TRUE(box.left >= 0 && box.top >= 0 && box.left + box.width <= 640 &&
                box.top + box.height <= 480);
    const double area = box.width * box.height / (640.0 * 480.0);
    const double aspect = static_cast<double>(box.width) / box.height;
    smallest = std::min(smallest, area), largest = std::max(largest, area);
    narrowest = std::min(narrowest, aspect), widest = std::max(widest, aspect);
  }
  EXPECT_NEAR(smallest, 0.08, 0.02);
  EXPECT_GT(largest, 0.9);
  EXPECT_NEAR(narrowest, 0.75, 0.02);
  EXPECT_NEAR(widest, 4.0 / 3.0, 0.03);
}

TEST(RandomCropBox, FallsBackToTheCentreWhereNothingFits) {
  const std::array<double, 2> scale{1.0, 1.0}, ratio{0.75, 4.0 / 3.0};
  CounterRng rng({1});
  EXPECT_EQ(random_crop_box(300, 30, scale, ratio, rng), (Box{130, 0, 40, 30}));
  EXPECT_EQ(random_crop_box(30, 300, scale, ratio, rng), (Box{0, 130, 30, 40}));
  EXPECT_EQ(random_crop_box(1, 1, scale, ratio, rng), (Box{0, 0, 1, 1}));
}

TEST(JitterColors, ZeroChangesNothingAndMoreDoes) {
  const Image input = golden("input.png");
  CounterRng none({1}), some({1});
  EXPECT_EQ(jitter_colors(input, 0.0, none), input);
  EXPECT_NE(jitter_colors(input, 0.4, some), input);
}

TEST(TrainingTransform, IsAPureFunctionOfTheKey) {
  const Image input = golden("input.png");
  for (const int64_t operations : {0, 2}) {
    ImageOptions options;
    options.image_size = 16;
    options.randaugment_ops = operations;
    CounterRng first({5, 6}), again({5, 6}), other({5, 7});
    const Image out = transform_for_training(input, options, first);
    EXPECT_EQ(out.width, 16);
    EXPECT_EQ(out.height, 16);
    EXPECT_EQ(out, transform_for_training(input, options, again));
    EXPECT_NE(out, transform_for_training(input, options, other));
  }
}

TEST(TrainingTransform, WithEverythingOffOnlyResizesAndFlips) {
  const Image input = golden("input.png");
  ImageOptions options;
  options.image_size = 16;
  options.train_interpolation = "bicubic";
  options.crop_scale = {1.0, 1.0};
  options.crop_ratio = {4.0 / 3.0, 4.0 / 3.0};
  options.flip_probability = 0;
  options.randaugment_ops = 0;
  options.color_jitter = 0;
  CounterRng rng({1});
  EXPECT_EQ(transform_for_training(input, options, rng),
            resize(input, 16, 16, Interpolation::kBicubic));
  options.flip_probability = 1;
  EXPECT_EQ(transform_for_training(input, options, rng),
            flip_horizontal(resize(input, 16, 16, Interpolation::kBicubic)));
}

TEST(EvaluationTransform, EqualsTorchvision) {
  ImageOptions options;
  options.image_size = 17;
  options.crop_pct = 0.9;
  EXPECT_EQ(transform_for_evaluation(golden("input.png"), options), golden("evaluation_17.png"));
}

TEST(Normalize, WritesPlanes) {
  Image image(2, 1);
  image.rgb = {0, 51, 255, 255, 102, 0};
  ImageOptions options;
  options.mean = {0.5, 0.2, 0.0};
  options.std = {0.5, 0.2, 1.0};
  std::array<float, 6> planes;
  normalize(image, options, planes.data());
  const std::array<float, 6> expected{-1, 1, 0, 1, 1, 0};
  for (size_t i = 0; i < 6; ++i) EXPECT_NEAR(planes[i], expected[i], 1e-6f) << i;
}

TEST(EraseRandomly, ReplacesOneRectangleInEveryChannel) {
  constexpr int kSize = 32;
  int erased = 0;
  for (uint64_t key = 0; key < 200; ++key) {
    std::vector<float> planes(3 * kSize * kSize, 7.0f);
    CounterRng rng({key});
    erase_randomly(planes.data(), kSize, 0.5, rng);
    std::array<int64_t, 3> changed{};
    for (size_t i = 0; i < planes.size(); ++i) changed[i / (kSize * kSize)] += planes[i] != 7.0f;
    EXPECT_EQ(changed[0], changed[1]);
    EXPECT_EQ(changed[0], changed[2]);
    if (changed[0] == 0) continue;
    ++erased;
    EXPECT_GE(changed[0], 0.015 * kSize * kSize);
    EXPECT_LE(changed[0], 0.36 * kSize * kSize);
  }
  EXPECT_NEAR(erased, 100, 35);
}

}  // namespace
}  // namespace quench::testing_images
