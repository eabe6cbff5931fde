#include "batches/images.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "batches/loader.h"
#include "config/fields.h"
#include "tests/data/image/support.h"

namespace quench {
namespace {

using testing_images::error_of;
using testing_images::golden_path;
using testing_images::logged;
using testing_images::mentions;
using testing_images::TempFolder;

struct Config {
  std::shared_ptr<DataConfig> data;
};
void describe(config::Fields& f, Config& c) { f.variant("data", c.data, data_types(), "data"); }

// The section as a config file gives it: `keys` in YAML's flow style.
std::shared_ptr<DataConfig> make_data(const std::string& keys) {
  Config config;
  config::read(config::parse("data: {" + keys + "}", {"a.yaml", 1}), config);
  return config.data;
}

OpenedData open(const std::string& keys, Subset subset = Subset::kTrain) {
  const auto data = make_data(keys);
  data->validate();
  return data->open(subset, {});
}

// 16 x 16 pixels, and nothing left to chance.
const std::string kPlain =
    "images: {image_size: 16, crop_scale: [1, 1], crop_ratio: [1, 1], flip_probability: 0, "
    "randaugment_ops: 0, color_jitter: 0, mixup_alpha: 0, cutmix_alpha: 0, label_smoothing: 0, "
    "train_interpolation: bilinear}";
const std::string kSynthetic = "type: synthetic, samples: 24, validation_samples: 8, ";

class TrainingLoader : public Loader {
 public:
  TrainingLoader(const OpenedData& data, int64_t batch_size, int64_t first = 0, int64_t rank = 0,
                 int64_t world_size = 1)
      : Loader(training_batches(
                   data.source,
                   {.batch_size = batch_size, .seed = 5, .rank = rank, .world_size = world_size}),
               at::kCPU, first) {}
};

bool equal(const Batch& a, const Batch& b) {
  return at::equal(a.pixel_values, b.pixel_values) && at::equal(a.labels, b.labels);
}

// Class folders `a` with two pictures and `b` with one.
void fill(const TempFolder& folder, const std::string& below) {
  folder.copy(golden_path("rgb.jpg"), below + "/a/0.jpg");
  folder.copy(golden_path("input.png"), below + "/a/1.png");
  folder.copy(golden_path("grey.jpg"), below + "/b/0.jpg");
}

std::vector<uint8_t> cifar_record(std::initializer_list<uint8_t> labels) {
  std::vector<uint8_t> bytes(labels);
  bytes.insert(bytes.end(), 3072, uint8_t{128});
  return bytes;
}

TEST(ImagesData, ImageFolderHasAClassAFolder) {
  TempFolder folder;
  fill(folder, "train");
  fill(folder, "validation");
  const std::string keys = concat("type: image_folder, train: ", folder.path(),
                                  "/train, validation: ", folder.path(), "/validation, ", kPlain);
  const OpenedData train = open(keys), validation = open(keys, Subset::kValidation);
  EXPECT_EQ(train.source->samples(), 3);
  EXPECT_EQ(train.vocabulary_or_classes, 2);
  EXPECT_EQ(train.max_seq_length, 0);
  const Batch batch = batch_in_order(*validation.source, 0, 3, 0);
  EXPECT_EQ(batch.pixel_values.sizes(), (at::IntArrayRef{3, 3, 16, 16}));
  EXPECT_EQ(batch.pixel_values.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(batch.labels, at::tensor({0, 0, 1}, at::kLong)));
}

TEST(ImagesData, ImageFolderHoldsOutWhereThereIsNoValidation) {
  TempFolder folder;
  fill(folder, "train");
  const std::string keys =
      concat("type: image_folder, train: ", folder.path(), "/train, hold_out: 2, ", kPlain);
  const Batch train = batch_in_order(*open(keys).source, 0, 1, 0);
  const Batch held = batch_in_order(*open(keys, Subset::kValidation).source, 0, 2, 0);
  EXPECT_EQ(open(keys).source->samples(), 1);
  EXPECT_EQ(open(keys, Subset::kValidation).source->samples(), 2);
  EXPECT_TRUE(at::equal(held.labels, at::tensor({0, 1}, at::kLong)));
  EXPECT_FALSE(at::equal(train.pixel_values[0], held.pixel_values[0]));
}

TEST(ImagesData, CifarReadsItsOwnSplits) {
  TempFolder folder;
  for (int i = 1; i <= 5; ++i)
    folder.write(concat("data_batch_", i, ".bin"), cifar_record({static_cast<uint8_t>(i)}));
  folder.write("test_batch.bin", cifar_record({9}));
  folder.write("train.bin", cifar_record({1, 42}));
  folder.write("test.bin", cifar_record({1, 99}));
  const auto label = [&](const char* type, Subset subset, int64_t sample) {
    const OpenedData opened = open(concat("type: ", type, ", path: ", folder.path()), subset);
    const Batch batch = batch_in_order(*opened.source, sample, 1, 0);
    EXPECT_EQ(batch.pixel_values.sizes(), (at::IntArrayRef{1, 3, 224, 224}));
    return batch.labels.item<int64_t>();
  };
  EXPECT_EQ(label("cifar10", Subset::kTrain, 4), 5);
  EXPECT_EQ(label("cifar10", Subset::kValidation, 0), 9);
  EXPECT_EQ(label("cifar100", Subset::kTrain, 0), 42);
  EXPECT_EQ(label("cifar100", Subset::kValidation, 0), 99);
}

TEST(ImagesData, MnistIsNormalizedGreyInThreeChannels) {
  TempFolder folder;
  folder.write("train-images-idx3-ubyte",
               std::vector<uint8_t>{0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 255});
  folder.write("train-labels-idx1-ubyte", std::vector<uint8_t>{0, 0, 8, 1, 0, 0, 0, 1, 7});
  const OpenedData opened = open(concat("type: mnist, path: ", folder.path(),
                                        ", images: {image_size: 1, mean: [0.5, 0.25, 0], "
                                        "std: [0.5, 0.5, 1], crop_pct: 1}"));
  EXPECT_EQ(opened.vocabulary_or_classes, 10);
  const Batch batch = batch_in_order(*opened.source, 0, 1, 0);
  EXPECT_TRUE(at::equal(batch.pixel_values.flatten(), at::tensor({1.0f, 1.5f, 1.0f})));
  EXPECT_EQ(batch.labels.item<int64_t>(), 7);
}

TEST(ImagesData, SyntheticSplitsShareNoImage) {
  const std::string keys = kSynthetic + "classes: 4, seed: 3, " + kPlain;
  const OpenedData train = open(keys), validation = open(keys, Subset::kValidation);
  EXPECT_EQ(train.source->samples(), 24);
  EXPECT_EQ(validation.source->samples(), 8);
  EXPECT_EQ(train.vocabulary_or_classes, 4);
  const Batch a = batch_in_order(*train.source, 0, 8, 0),
              b = batch_in_order(*validation.source, 0, 8, 0);
  EXPECT_TRUE(at::equal(a.labels, b.labels));
  for (int64_t i = 0; i < 8; ++i)
    EXPECT_FALSE(at::equal(a.pixel_values[i], b.pixel_values[i])) << i;
}

TEST(ImagesData, TheRecipeOfTrainingGivesSoftLabels) {
  TrainingLoader loader(open(kSynthetic + "images: {image_size: 16}"), 8);
  const Batch batch = *loader.next();
  EXPECT_EQ(batch.pixel_values.sizes(), (at::IntArrayRef{8, 3, 16, 16}));
  EXPECT_EQ(batch.labels.sizes(), (at::IntArrayRef{8, 10}));
  EXPECT_EQ(batch.labels.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::allclose(batch.labels.sum(1), at::ones({8})));
  // Every step mixes by a share of its own, which pairs of two classes tell.
  const auto share = [](const Batch& b) { return b.labels.amax(1).min().item<float>(); };
  EXPECT_NE(share(batch), share(*loader.next()));
}

TEST(ImagesData, WithoutMixingAndSmoothingLabelsAreIntegers) {
  TrainingLoader loader(open(kSynthetic + kPlain), 8);
  EXPECT_EQ(loader.next()->labels.scalar_type(), at::kLong);
}

TEST(ImagesData, EvaluationIsFreeOfChance) {
  const auto evaluation = [](const std::string& keys, uint64_t seed) {
    return batch_in_order(*open(kSynthetic + keys).source, 0, 8, seed);
  };
  const Batch batch = evaluation("images: {image_size: 16}", 1);
  EXPECT_TRUE(equal(batch, evaluation("images: {image_size: 16}", 2)));
  EXPECT_TRUE(equal(batch, evaluation(kPlain, 1)));  // kPlain differs in training's keys only
}

TEST(ImagesData, AResumedLoaderGoesOnWithTheSameBatches) {
  const std::string keys = kSynthetic + "images: {image_size: 16}, threads: ";
  TrainingLoader whole(open(keys + "1"), 8);
  whole.next();
  whole.next();
  TrainingLoader resumed(open(keys + "3"), 8, 2);
  for (int step = 2; step < 6; ++step) EXPECT_TRUE(equal(*whole.next(), *resumed.next())) << step;
}

TEST(ImagesData, RanksShareOutTheBatchesOfOne) {
  const OpenedData opened = open(kSynthetic + "images: {image_size: 16}");
  TrainingLoader one(opened, 8);
  TrainingLoader left(opened, 4, 0, 0, 2), right(opened, 4, 0, 1, 2);
  for (int step = 0; step < 6; ++step) {
    const Batch whole = *one.next(), a = *left.next(), b = *right.next();
    EXPECT_TRUE(at::equal(whole.pixel_values, at::cat({a.pixel_values, b.pixel_values}))) << step;
    EXPECT_TRUE(at::equal(whole.labels, at::cat({a.labels, b.labels}))) << step;
  }
}

TEST(ImagesData, EveryEpochDrawsAnew) {
  const OpenedData opened = open(
      "type: synthetic, samples: 1, images: {image_size: 16, mixup_alpha: 0, cutmix_alpha: 0}");
  TrainingLoader loader(opened, 1);
  const Batch first = *loader.next();
  EXPECT_FALSE(at::equal(first.pixel_values, loader.next()->pixel_values));
}

TEST(ImagesData, AnOddBatchCannotBeMixed) {
  for (const std::string type : {"synthetic", "image_folder, train: a", "cifar10, path: a"}) {
    const auto data = make_data("type: " + type + ", images: {mixup_alpha: 0}");
    EXPECT_NO_THROW(data->check_batch_size(4));
    EXPECT_TRUE(mentions(error_of([&] { data->check_batch_size(5); }),
                         {"train.batch_size", "even", "data.images.cutmix_alpha", "got 5"}));
  }
  EXPECT_NO_THROW(make_data(kSynthetic + kPlain)->check_batch_size(5));
}

TEST(ImagesData, AMissingFolderIsNamedAndNothingIsCreated) {
  TempFolder folder;
  fill(folder, "train");
  const std::string missing = folder.path() + "/missing";
  for (const std::string& keys :
       {"type: image_folder, train: " + missing,
        concat("type: image_folder, train: ", folder.path(), "/train, validation: ", missing),
        "type: cifar10, path: " + missing, "type: mnist, path: " + missing}) {
    try {
      make_data(keys)->validate();
      ADD_FAILURE() << keys;
    } catch (const UsageError& error) {
      EXPECT_TRUE(mentions(error.what(), {"folder '", "/missing' does not exist"}));
    }
  }
  EXPECT_FALSE(std::filesystem::exists(missing));
}

TEST(ImagesData, AnEmptyClassIsNamed) {
  TempFolder folder;
  fill(folder, "train");
  std::filesystem::create_directories(folder.path() + "/train/c");
  EXPECT_TRUE(mentions(
      error_of([&] { open(concat("type: image_folder, train: ", folder.path(), "/train")); }),
      {"/train/c", "no images"}));
}

TEST(ImagesData, ValidationHasTheClassesOfTraining) {
  TempFolder folder;
  fill(folder, "train");
  fill(folder, "validation");
  folder.copy(golden_path("rgb.jpg"), "validation/aa/0.jpg");
  EXPECT_TRUE(mentions(error_of([&] {
                         open(concat("type: image_folder, train: ", folder.path(),
                                     "/train, validation: ", folder.path(), "/validation"));
                       }),
                       {"same classes", "'aa' is only in the second"}));
}

TEST(ImagesData, ACorruptImageEndsTheRunOrGivesWayToTheNext) {
  TempFolder folder;
  fill(folder, "train");
  folder.write("train/a/0.jpg", std::vector<uint8_t>{0xff, 0xd8, 0xff, 1, 2, 3});
  fill(folder, "validation");
  const std::string keys = concat("type: image_folder, train: ", folder.path(),
                                  "/train, validation: ", folder.path(), "/validation, ", kPlain);
  EXPECT_TRUE(
      mentions(error_of([&] { batch_in_order(*open(keys).source, 0, 2, 0); }), {"/train/a/0.jpg"}));

  const OpenedData opened = open(keys + ", on_error: skip");
  Batch batch;
  const std::string said = logged(
      [&] {
        batch = batch_in_order(*opened.source, 0, 3, 0);
        batch_in_order(*opened.source, 0, 3, 0);
      },
      folder);
  EXPECT_TRUE(at::equal(batch.pixel_values[0], batch.pixel_values[1]));
  EXPECT_TRUE(mentions(said, {"/train/a/0.jpg", "(1 unreadable so far)"}));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
}

TEST(ImagesData, EmptyClassesAreLeftOutWhereErrorsAreSkipped) {
  TempFolder folder;
  fill(folder, "train");
  fill(folder, "validation");
  for (const char* name : {"/train/aa", "/validation/c"})
    std::filesystem::create_directories(folder.path() + name);
  const std::string keys =
      concat("type: image_folder, train: ", folder.path(), "/train, validation: ", folder.path(),
             "/validation, on_error: skip, ", kPlain);
  for (const Subset subset : {Subset::kTrain, Subset::kValidation}) {
    const OpenedData opened = open(keys, subset);
    EXPECT_EQ(opened.vocabulary_or_classes, 2);
    EXPECT_TRUE(at::equal(batch_in_order(*opened.source, 0, 3, 0).labels,
                          at::tensor({0, 0, 1}, at::kLong)));
  }
  std::filesystem::remove_all(folder.path() + "/validation/a/0.jpg");
  std::filesystem::remove_all(folder.path() + "/validation/a/1.png");
  EXPECT_TRUE(
      mentions(error_of([&] { open(keys); }), {"same classes", "'a' is only in the first"}));
}

TEST(ImagesData, LabelsOutOfRangeAreLeftOutWhereErrorsAreSkipped) {
  TempFolder folder;
  std::vector<uint8_t> bytes = cifar_record({10});
  for (const uint8_t byte : cifar_record({4})) bytes.push_back(byte);
  folder.write("test_batch.bin", bytes);
  const std::string keys = concat("type: cifar10, path: ", folder.path(), ", ", kPlain);
  EXPECT_TRUE(mentions(error_of([&] { open(keys, Subset::kValidation); }), {"has label 10"}));
  const OpenedData opened = open(keys + ", on_error: skip", Subset::kValidation);
  EXPECT_EQ(opened.source->samples(), 1);
  EXPECT_EQ(batch_in_order(*opened.source, 0, 1, 0).labels.item<int64_t>(), 4);
}

TEST(ImagesData, ValuesThatCannotBeAreNamed) {
  for (const auto& [keys, key] :
       {std::pair{"type: image_folder", "data.train"},
        {"type: cifar10", "data.path"},
        {"type: synthetic, classes: 41", "data.classes"},
        {"type: synthetic, images: {image_size: 4}", "data.images.image_size"},
        {"type: synthetic, images: {mean: [0.5]}", "data.images.mean"},
        {"type: synthetic, images: {std: [0.5, 0, 0.5]}", "data.images.std"},
        {"type: synthetic, images: {crop_scale: [0.5, 0.1]}", "data.images.crop_scale"},
        {"type: synthetic, images: {randaugment_magnitude: 11}",
         "data.images.randaugment_magnitude"},
        {"type: synthetic, on_error: ignore", "data.on_error"}})
    EXPECT_TRUE(mentions(error_of([&] { make_data(keys); }), {"a.yaml:1: ", key})) << keys;
}

}  // namespace
}  // namespace quench
