// Images of one size and their labels, held in memory as a data set's own files store them.
#pragma once

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "data/image/source.h"

namespace quench {

struct StoredImages {
  std::string name;  // for error messages
  int width = 0;
  int height = 0;
  int channels = 0;               // 1 (grey) or 3 (all red, then green, then blue)
  std::vector<uint8_t> pixels{};  // [images, channels, height, width]
  std::vector<uint8_t> labels{};  // [images]
  std::vector<std::string> class_names{};
};

class MemorySource : public ImageSource {
 public:
  // Throws Error when a label has no class; with kSkip, when none has one.
  MemorySource(StoredImages stored, OnError on_error) : stored_(std::move(stored)) {
    std::string first;  // complaint
    for (size_t i = 0; i < stored_.labels.size(); ++i) {
      if (stored_.labels[i] < stored_.class_names.size()) {
        images_.push_back(i);
      } else if (first.empty()) {
        first = concat(stored_.name, ": image ", i, " has label ", int{stored_.labels[i]},
                       ", expected 0 to ", stored_.class_names.size() - 1);
        check(on_error == OnError::kSkip, first);
      }
    }
    check(!images_.empty(), first, "; no image has a label in range");
    if (!first.empty())
      log_warning(
          concat(first, "; it is left out (", stored_.labels.size() - images_.size(), " in all)"));
  }

  int64_t size() const override { return static_cast<int64_t>(images_.size()); }
  int64_t label(int64_t index) const override { return stored_.labels[images_.at(index)]; }
  const std::vector<std::string>& class_names() const override { return stored_.class_names; }
  std::string identity() const override {
    ContentHash hash;
    for (const std::vector<uint8_t>* bytes : {&stored_.pixels, &stored_.labels})
      hash.update({reinterpret_cast<const char*>(bytes->data()), bytes->size()});
    return hash.hex();
  }

  Image load(int64_t index) const override {
    const size_t plane = static_cast<size_t>(stored_.width) * stored_.height;
    const uint8_t* in = stored_.pixels.data() + plane * stored_.channels * images_.at(index);
    const size_t stride = stored_.channels == 1 ? 0 : plane;
    Image image(stored_.width, stored_.height);
    for (size_t i = 0; i < plane; ++i) {
      for (size_t c = 0; c < 3; ++c) image.rgb[3 * i + c] = in[i + c * stride];
    }
    return image;
  }

 private:
  StoredImages stored_;
  std::vector<size_t> images_;  // those with a class
};

}  // namespace quench
