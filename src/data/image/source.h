// Where labelled images come from. A source is immutable after construction and safe to read from
// many threads; image and label are pure functions of the index.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/image/image.h"
#include "data/subset.h"

namespace quench {

class ImageSource {
 public:
  virtual ~ImageSource() = default;
  virtual int64_t size() const = 0;
  // 0 <= index < size(). Throws Error naming the file when it cannot be read or decoded.
  virtual Image load(int64_t index) const = 0;
  virtual int64_t label(int64_t index) const = 0;  // 0 .. classes() - 1
  virtual const std::vector<std::string>& class_names() const = 0;
  // Names the content without reading every picture; empty: a function of the source's options.
  virtual std::string identity() const { return ""; }
  int64_t classes() const { return static_cast<int64_t>(class_names().size()); }
};

using ImageSourcePtr = std::shared_ptr<const ImageSource>;

// What is wrong in a data set (a picture that cannot be read, a class without pictures, a label out
// of range) is an Error, or it is left out: a class and pictures with such labels where the source
// is opened, with one warning that counts them; an unreadable picture where a batch needs it
// (batcher.h).
enum class OnError { kFail, kSkip };

// torchvision's ImageFolder: one folder a class, classes in the order of their names, JPEG, PNG and
// WebP files anywhere below. Hidden folders and files do not count; what else is left out (other
// endings, links that lead nowhere) is told and counted.
ImageSourcePtr image_folder(const std::string& folder, OnError on_error = OnError::kFail);

// The classes of an image folder; a class without pictures is one only with kFail.
std::vector<std::string> image_classes(const std::string& folder, OnError on_error);

// The binary versions of CIFAR (data_batch_*.bin and test_batch.bin; train.bin and test.bin, fine
// labels).
ImageSourcePtr cifar10(const std::string& folder, Subset subset, OnError on_error = OnError::kFail);
ImageSourcePtr cifar100(const std::string& folder, Subset subset,
                        OnError on_error = OnError::kFail);

// MNIST, Fashion-MNIST and their like: {train,t10k}-{images-idx3,labels-idx1}-ubyte, plain or .gz.
ImageSourcePtr mnist(const std::string& folder, Subset subset, OnError on_error = OnError::kFail);

// A made-up task: one of ten shapes, drawn with random place, size, tilt and colour on an
// uninformative background; beyond ten classes the colour tells too. Image i is a pure function of
// (seed, i).
constexpr int64_t kMaxSyntheticClasses = 40;
ImageSourcePtr synthetic_images(int64_t size, int64_t classes, int image_size, uint64_t seed);

// Splits one source in two: every `every`-th image (by index) is held out for validation, the
// others train.
ImageSourcePtr hold_out(ImageSourcePtr source, int64_t every, Subset subset);

}  // namespace quench
