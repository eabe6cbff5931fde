#include "batches/images.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <mutex>
#include <set>

#include "base/environment.h"
#include "base/error.h"
#include "base/log.h"
#include "base/parallel.h"
#include "data/image/augment.h"
#include "data/image/batcher.h"
#include "data/image/mix.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// Names every unreadable picture, once, where the batcher replaces it.
class ReportedSource : public ImageSource {
 public:
  explicit ReportedSource(ImageSourcePtr source) : source_(std::move(source)) {}

  int64_t size() const override { return source_->size(); }
  int64_t label(int64_t index) const override { return source_->label(index); }
  const std::vector<std::string>& class_names() const override { return source_->class_names(); }
  std::string identity() const override { return source_->identity(); }

  Image load(int64_t index) const override {
    try {
      return source_->load(index);
    } catch (const Error& error) {
      std::lock_guard lock(mutex_);
      if (unreadable_.insert(index).second)
        log_warning(concat(error.what(), "; left out, in training for the next readable image (",
                           unreadable_.size(), " unreadable so far)"));
      throw;
    }
  }

 private:
  ImageSourcePtr source_;
  mutable std::mutex mutex_;
  mutable std::set<int64_t> unreadable_;
};

template <class T>
at::Tensor to_tensor(std::vector<T> values, at::IntArrayRef sizes) {
  const auto owner = std::make_shared<std::vector<T>>(std::move(values));
  return at::from_blob(
      owner->data(), sizes, [owner](void*) {}, at::dtype(c10::CppTypeToScalarType<T>::value));
}

class ImageBatchSource : public BatchSource {
 public:
  ImageBatchSource(const ImageSourcePtr& source, const ImageInput& input)
      : samples_(source->size()),
        class_names_(source->class_names()),
        options_(input.images),
        batcher_(source, input.images,
                 input.threads ? static_cast<int>(*input.threads) : processors(),
                 input.error_mode()) {}

  int64_t samples() const override { return samples_; }
  std::vector<std::string> class_names() const override { return class_names_; }

  Batch batch(const BatchRequest& request) const override {
    const auto size = static_cast<int64_t>(request.samples.size());
    ImageBatch made = request.training ? batcher_.training_batch(key(request), request.samples)
                                       : batcher_.evaluation_batch(request.samples);
    Batch batch;
    batch.pixel_values = to_tensor(std::move(made.pixel_values),
                                   {size, 3, options_.image_size, options_.image_size});
    const bool soft = mixes(options_) || options_.label_smoothing > 0;
    const auto classes = static_cast<int64_t>(class_names_.size());
    batch.labels = request.training && soft ? to_tensor(std::move(made.targets), {size, classes})
                                            : to_tensor(std::move(made.labels), {size});
    return batch;
  }

 private:
  // The position in the whole stream serves as that in the step's batch: within a step they differ
  // by a constant, which is even if the batch is.
  BatchKey key(const BatchRequest& request) const {
    return {request.seed, static_cast<uint64_t>(request.step), request.positions.front()};
  }

  int64_t samples_;
  std::vector<std::string> class_names_;
  ImageOptions options_;
  ImageBatcher batcher_;
};

// What evaluation does to an image (data/image/augment.h), as a preprocessor_config.json.
Json image_processor(const ImageOptions& o) {
  return {{"image_processor_type", "CLIPImageProcessor"},  // the one that resizes the shorter side
          {"do_convert_rgb", true},
          {"do_resize", true},
          {"size", {{"shortest_edge", shorter_side(o)}}},
          {"resample", o.interpolation == "bicubic" ? 3 : 2},  // PIL's numbers
          {"do_center_crop", true},
          {"crop_size", {{"height", o.image_size}, {"width", o.image_size}}},
          {"do_rescale", true},
          {"rescale_factor", 1 / 255.0},
          {"do_normalize", true},
          {"image_mean", o.mean},
          {"image_std", o.std}};
}

std::string existing_folder(const char* key, const std::string& path) {
  const std::string folder = expand_variables(path);
  if (!fs::is_directory(folder)) fail_usage("data.", key, ": folder '", path, "' does not exist");
  return folder;
}

}  // namespace

void describe(config::Fields& f, ImageOptions& o) {
  using namespace config;
  f("image_size", o.image_size, "pixels a side of what the model gets: the model's image_size",
    between(1, 16384));
  f("mean", o.mean, "is subtracted from red, green and blue, which lie in [0, 1]", between(0, 1));
  f("std", o.std, "divides them", greater_than(0));
  f("crop_pct", o.crop_pct, "share of the shorter side that evaluation keeps", between(0.051, 1));
  f("interpolation", o.interpolation, "of evaluation", one_of({"bicubic", "bilinear"}));
  f("train_interpolation", o.train_interpolation, "of training",
    one_of({"random", "bicubic", "bilinear"}));
  f("crop_scale", o.crop_scale, "least and largest share of the image that a training crop keeps",
    between(0, 1));
  f("crop_ratio", o.crop_ratio, "least and largest width / height of a training crop",
    greater_than(0));
  f("flip_probability", o.flip_probability, "of a horizontal flip", between(0, 1));
  f("randaugment_ops", o.randaugment_ops, "operations of RandAugment; 0: off", at_least(0));
  f("randaugment_magnitude", o.randaugment_magnitude, "mean strength of an operation",
    between(0, 10));
  f("randaugment_std", o.randaugment_std, "standard deviation of the strength", at_least(0));
  f("color_jitter", o.color_jitter, "strength of the color jitter, where RandAugment is off",
    at_least(0));
  f("erase_probability", o.erase_probability, "of a rectangle that becomes noise", between(0, 1));
  f("mixup_alpha", o.mixup_alpha, "Mixup blends pairs by a share from Beta(alpha, alpha); 0: off",
    at_least(0));
  f("cutmix_alpha", o.cutmix_alpha,
    "CutMix swaps a rectangle of such a share; 0: off; both on: one of them a batch", at_least(0));
  f("label_smoothing", o.label_smoothing, "share of a label that all classes get", between(0, 1));
  f.require(o.mean.size() == 3, "mean", "expected three numbers");
  f.require(o.std.size() == 3, "std", "expected three numbers");
  const auto range = [](const std::vector<double>& x) {
    return x.size() == 2 && x[0] > 0 && x[0] <= x[1];
  };
  f.require(range(o.crop_scale), "crop_scale", "expected two numbers, 0 < least <= largest");
  f.require(range(o.crop_ratio), "crop_ratio", "expected two numbers, 0 < least <= largest");
}

void ImageInput::describe(config::Fields& f) {
  f.section("images", images, "how an image becomes the model's input");
  f("on_error", on_error,
    "an unreadable image, a class without images or a label out of range ends the run, or is named "
    "and left out",
    config::one_of({"fail", "skip"}));
  f("threads", threads, "threads that make images; default: one a core", config::at_least(1),
    config::OnResume::kFree);
}

void ImageInput::check_batch_size(int64_t batch_size) const {
  if (mixes(images) && batch_size % 2 != 0)
    fail_usage("train.batch_size: expected an even number, since data.images.",
               images.mixup_alpha > 0 ? "mixup_alpha" : "cutmix_alpha",
               " > 0 mixes pairs of images, got ", batch_size);
}

OpenedData ImageInput::open(ImageSourcePtr source) const {
  if (error_mode() == OnError::kSkip) source = std::make_shared<ReportedSource>(std::move(source));
  OpenedData opened;
  opened.source = std::make_shared<ImageBatchSource>(source, *this);
  opened.vocabulary_or_classes = source->classes();
  opened.image_size = images.image_size;
  opened.image_processor = image_processor(images);
  opened.identity = source->identity();
  return opened;
}

void ImageFolderData::describe(config::Fields& f) {
  f("train", train, "folder with one folder a class, .jpg, .jpeg, .png and .webp files in them",
    config::any(), config::OnResume::kFree);
  f("validation", validation, "the same with the same classes; default: a share of `train`",
    config::any(), config::OnResume::kFree);
  f("hold_out", hold_out, "without `validation`, one image of so many is held out of `train`",
    config::at_least(2));
  input.describe(f);
  f.require(!train.empty() || !validation.empty(), "train", "expected a folder, got none");
}

void ImageFolderData::validate() const {
  std::vector<std::string> classes, others;
  const auto read = [&](const char* key, const std::string& path) {
    return image_classes(existing_folder(key, path), input.error_mode());
  };
  if (!train.empty()) classes = read("train", train);
  if (!validation.empty()) others = read("validation", validation);
  if (train.empty() || validation.empty()) return;
  std::vector<std::string> differ;
  std::set_symmetric_difference(classes.begin(), classes.end(), others.begin(), others.end(),
                                std::back_inserter(differ));
  if (!differ.empty())
    fail_usage("data: expected the same classes in '", train, "' and '", validation, "', but '",
               differ[0], "' is only in the ",
               std::ranges::count(classes, differ[0]) ? "first" : "second");
}

OpenedData ImageFolderData::open(Subset subset, const DataContext&) const {
  const bool training = subset == Subset::kTrain;
  if (training && train.empty()) fail_usage("data.train: expected a folder, got none");
  if (!training && !validation.empty())
    return input.open(image_folder(expand_variables(validation), input.error_mode()));
  ImageSourcePtr source = image_folder(expand_variables(train), input.error_mode());
  if (validation.empty()) source = quench::hold_out(source, hold_out, subset);
  return input.open(source);
}

void PackedImagesData::describe(config::Fields& f) {
  f("path", path, "folder of the data set's files", config::any(), config::OnResume::kFree);
  input.describe(f);
  f.require(!path.empty(), "path", "expected a folder, got none");
}

void PackedImagesData::validate() const { existing_folder("path", path); }

OpenedData PackedImagesData::open(Subset subset, const DataContext&) const {
  return input.open(read_(expand_variables(path), subset, input.error_mode()));
}

void SyntheticImagesData::describe(config::Fields& f) {
  using namespace config;
  f("samples", samples, "training images", at_least(1));
  f("validation_samples", validation_samples, "validation images", at_least(1));
  f("classes", classes, "shapes; beyond ten, in several colors", between(2, kMaxSyntheticClasses));
  f("seed", seed, "of the images", at_least(0));
  input.describe(f);
  f.require(input.images.image_size >= 8, "images.image_size",
            concat("expected at least 8, got ", input.images.image_size));
}

OpenedData SyntheticImagesData::open(Subset subset, const DataContext&) const {
  const bool training = subset == Subset::kTrain;
  // ~seed is no seed that a training set can have.
  const auto key = static_cast<uint64_t>(training ? seed : ~seed);
  return input.open(synthetic_images(training ? samples : validation_samples, classes,
                                     static_cast<int>(input.images.image_size), key));
}

}  // namespace quench
