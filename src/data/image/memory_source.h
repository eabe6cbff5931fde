// Images of one size and their labels, held in memory as a data set's own files store them.
#pragma once

#include "base/error.h"
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
  // Throws Error when a label has no class.
  explicit MemorySource(StoredImages stored) : stored_(std::move(stored)) {
    for (size_t i = 0; i < stored_.labels.size(); ++i) {
      check(stored_.labels[i] < stored_.class_names.size(), stored_.name, ": image ", i,
            " has label ", int{stored_.labels[i]}, ", expected 0 to ",
            stored_.class_names.size() - 1);
    }
  }

  int64_t size() const override { return static_cast<int64_t>(stored_.labels.size()); }
  int64_t label(int64_t index) const override { return stored_.labels.at(index); }
  const std::vector<std::string>& class_names() const override { return stored_.class_names; }

  Image load(int64_t index) const override {
    const size_t plane = static_cast<size_t>(stored_.width) * stored_.height;
    const uint8_t* in = stored_.pixels.data() + plane * stored_.channels * index;
    const size_t stride = stored_.channels == 1 ? 0 : plane;
    Image image(stored_.width, stored_.height);
    for (size_t i = 0; i < plane; ++i) {
      for (size_t c = 0; c < 3; ++c) image.rgb[3 * i + c] = in[i + c * stride];
    }
    return image;
  }

 private:
  StoredImages stored_;
};

}  // namespace quench
