// An 8-bit RGB picture, the form in which images travel from a source to the model's float tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace quench {

struct Image {
  int width = 0;
  int height = 0;
  std::vector<uint8_t> rgb;  // [height, width, 3]

  Image() = default;
  Image(int w, int h) : width(w), height(h), rgb(size_t{3} * w * h) {}

  uint8_t* row(int y) { return rgb.data() + size_t{3} * width * y; }
  const uint8_t* row(int y) const { return rgb.data() + size_t{3} * width * y; }
  bool operator==(const Image&) const = default;
};

// A rectangle of whole pixels.
struct Box {
  int left = 0;
  int top = 0;
  int width = 0;
  int height = 0;
  bool operator==(const Box&) const = default;
};

}  // namespace quench
