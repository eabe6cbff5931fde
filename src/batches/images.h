// data.type: image_folder, cifar10, cifar100, mnist, synthetic. Labelled pictures -> timm's
// training recipe (data/image) -> pixel_values [B, 3, S, S] with labels int64 [B], or float [B,
// classes] where the recipe mixes or smooths them.
//
// What is drawn at random depends on the seed, the loader's step and the sample's place in the
// stream; Mixup and CutMix take one choice a step, and neighbours in the stream as pairs. So a
// resumed run and any number of ranks get the same pictures.
#pragma once

#include "batches/data_config.h"
#include "data/image/options.h"
#include "data/image/source.h"

namespace quench {

void describe(config::Fields& fields, ImageOptions& options);

// The keys that all kinds of pictures share.
struct ImageInput {
  ImageOptions images;
  std::string on_error = "fail";   // | skip
  std::optional<int64_t> threads;  // default: one a core

  void describe(config::Fields& fields);
  OnError error_mode() const { return on_error == "skip" ? OnError::kSkip : OnError::kFail; }
  void check_batch_size(int64_t batch_size) const;
  OpenedData open(ImageSourcePtr source) const;
};

// JPEG and PNG files, one folder a class.
class ImageFolderData : public DataConfig {
 public:
  std::string train;
  std::string validation;
  int64_t hold_out = 20;
  ImageInput input;

  std::string type() const override { return "image_folder"; }
  void describe(config::Fields& fields) override;
  void validate() const override;
  void check_batch_size(int64_t size) const override { input.check_batch_size(size); }
  OpenedData open(Subset subset, const DataContext& context) const override;
};

// A data set in files of its own format, with its own test set.
class PackedImagesData : public DataConfig {
 public:
  using Read = ImageSourcePtr (*)(const std::string& folder, Subset subset, OnError on_error);

  PackedImagesData(std::string type, Read read) : type_(std::move(type)), read_(read) {}

  std::string path;
  ImageInput input;

  std::string type() const override { return type_; }
  void describe(config::Fields& fields) override;
  void validate() const override;
  void check_batch_size(int64_t size) const override { input.check_batch_size(size); }
  OpenedData open(Subset subset, const DataContext& context) const override;

 private:
  std::string type_;
  Read read_;
};

// Shapes that are drawn on demand.
class SyntheticImagesData : public DataConfig {
 public:
  int64_t samples = 10000;
  int64_t validation_samples = 1000;
  int64_t classes = 10;
  int64_t seed = 0;
  ImageInput input;

  std::string type() const override { return "synthetic"; }
  void describe(config::Fields& fields) override;
  void validate() const override {}
  void check_batch_size(int64_t size) const override { input.check_batch_size(size); }
  OpenedData open(Subset subset, const DataContext& context) const override;
};

}  // namespace quench
