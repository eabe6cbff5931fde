#include "data/image/resize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

#include "base/error.h"

namespace quench {
namespace {

constexpr int kPrecisionBits = 32 - 8 - 2;

double bilinear(double x) { return std::max(0.0, 1.0 - std::abs(x)); }

// Keys' cubic convolution with a = -1/2.
double bicubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
  if (x < 2.0) return (((x - 5.0) * x + 8.0) * x - 4.0) * a;
  return 0.0;
}

// For each output position: the first input position it reads, and its fixed-point weights.
struct Taps {
  int count;
  std::vector<int> first;
  std::vector<int> length;
  std::vector<int32_t> weights;  // [outputs, count]
};

// For the outputs [begin, begin + outputs) of `out`.
Taps make_taps(int in, int out, Interpolation filter, int begin, int outputs) {
  const bool cubic = filter == Interpolation::kBicubic;
  const double scale = static_cast<double>(in) / out;
  const double stretch = std::max(scale, 1.0);
  const double support = (cubic ? 2.0 : 1.0) * stretch;
  Taps taps;
  taps.count = static_cast<int>(std::ceil(support)) * 2 + 1;
  taps.first.resize(outputs);
  taps.length.resize(outputs);
  taps.weights.assign(static_cast<size_t>(outputs) * taps.count, 0);
  std::vector<double> exact(taps.count);
  for (int o = 0; o < outputs; ++o) {
    const double center = (begin + o + 0.5) * scale;
    const int first = std::max(static_cast<int>(center - support + 0.5), 0);
    const int length = std::min(static_cast<int>(center + support + 0.5), in) - first;
    double sum = 0.0;
    for (int i = 0; i < length; ++i) {
      const double x = (i + first - center + 0.5) * (1.0 / stretch);
      exact[i] = cubic ? bicubic(x) : bilinear(x);
      sum += exact[i];
    }
    for (int i = 0; i < length; ++i) {
      const double weight = (sum != 0.0 ? exact[i] / sum : exact[i]) * (1 << kPrecisionBits);
      taps.weights[static_cast<size_t>(o) * taps.count + i] =
          static_cast<int32_t>(weight < 0 ? weight - 0.5 : weight + 0.5);
    }
    taps.first[o] = first;
    taps.length[o] = length;
  }
  return taps;
}

uint8_t to_byte(int32_t fixed) {
  return static_cast<uint8_t>(std::clamp(fixed >> kPrecisionBits, 0, 255));
}

// Columns of the result as `columns` says, of the rows of `box`.
Image resize_rows(const Image& image, const Box& box, const Taps& columns) {
  const int width = static_cast<int>(columns.first.size());
  Image out(width, box.height);
  for (int y = 0; y < box.height; ++y) {
    const uint8_t* in = image.row(box.top + y) + size_t{3} * box.left;
    uint8_t* target = out.row(y);
    for (int x = 0; x < width; ++x, target += 3) {
      const int32_t* weights = &columns.weights[static_cast<size_t>(x) * columns.count];
      const uint8_t* pixel = in + size_t{3} * columns.first[x];
      int32_t red = 1 << (kPrecisionBits - 1), green = red, blue = red;
      for (int i = 0; i < columns.length[x]; ++i, pixel += 3) {
        red += pixel[0] * weights[i];
        green += pixel[1] * weights[i];
        blue += pixel[2] * weights[i];
      }
      target[0] = to_byte(red);
      target[1] = to_byte(green);
      target[2] = to_byte(blue);
    }
  }
  return out;
}

// Rows of the result as `rows` says; `image` begins at row `top` of what they count in.
Image resize_columns(const Image& image, const Taps& rows, int top) {
  const int height = static_cast<int>(rows.first.size());
  Image out(image.width, height);
  const size_t bytes = size_t{3} * image.width;
  std::vector<int32_t> sums(bytes);
  for (int y = 0; y < height; ++y) {
    std::fill(sums.begin(), sums.end(), 1 << (kPrecisionBits - 1));
    for (int i = 0; i < rows.length[y]; ++i) {
      const int32_t weight = rows.weights[static_cast<size_t>(y) * rows.count + i];
      const uint8_t* in = image.row(rows.first[y] - top + i);
      for (size_t x = 0; x < bytes; ++x) sums[x] += in[x] * weight;
    }
    uint8_t* target = out.row(y);
    for (size_t x = 0; x < bytes; ++x) target[x] = to_byte(sums[x]);
  }
  return out;
}

Image crop(const Image& image, const Box& box) {
  Image out(box.width, box.height);
  for (int y = 0; y < box.height; ++y) {
    std::memcpy(out.row(y), image.row(box.top + y) + size_t{3} * box.left, size_t{3} * box.width);
  }
  return out;
}

}  // namespace

Image resize(const Image& image, const Box& box, int width, int height, Interpolation filter,
             const Box& window) {
  check(box.left >= 0 && box.top >= 0 && box.width > 0 && box.height > 0 &&
            box.left + box.width <= image.width && box.top + box.height <= image.height,
        "resize: the box ", box.left, ",", box.top, " ", box.width, "x", box.height,
        " does not lie inside the image of ", image.width, "x", image.height);
  check(width > 0 && height > 0, "resize: the new size ", width, "x", height, " is empty");
  // The rows of the picture that the window's own are made of.
  Box read = {box.left, box.top + window.top, box.width, window.height};
  std::optional<Taps> rows;
  if (box.height != height) {
    rows = make_taps(box.height, height, filter, window.top, window.height);
    const int end = rows->first.back() + rows->length.back();
    read.top = box.top + rows->first.front();
    read.height = end - rows->first.front();
  }
  const auto narrowed = [&] {
    if (box.width != width)
      return resize_rows(image, read,
                         make_taps(box.width, width, filter, window.left, window.width));
    return crop(image, {box.left + window.left, read.top, window.width, read.height});
  };
  return rows ? resize_columns(narrowed(), *rows, rows->first.front()) : narrowed();
}

Image resize(const Image& image, const Box& box, int width, int height, Interpolation filter) {
  return resize(image, box, width, height, filter, {0, 0, width, height});
}

Image resize(const Image& image, int width, int height, Interpolation filter) {
  return resize(image, Box{0, 0, image.width, image.height}, width, height, filter);
}

Image resize_and_center_crop(const Image& image, int shorter_side, int size, Interpolation filter) {
  const int64_t shorter = std::min(image.width, image.height);
  check(shorter > 0, "resize: the image is empty");
  check(shorter_side >= size, "resize: no square of ", size, " lies in a side of ", shorter_side);
  const auto scaled = [&](int side) {
    const int64_t pixels = int64_t{shorter_side} * side / shorter;
    check(pixels <= std::numeric_limits<int>::max(), "a picture of ", image.width, " x ",
          image.height, " is too long and thin to be resized");
    return static_cast<int>(pixels);
  };
  const int width = scaled(image.width), height = scaled(image.height);
  // Halves go to the even neighbour, as Python's round().
  const auto offset = [&](int side) {
    return static_cast<int>(std::nearbyint((side - size) / 2.0));
  };
  return resize(image, {0, 0, image.width, image.height}, width, height, filter,
                {offset(width), offset(height), size, size});
}

Image flip_horizontal(const Image& image) {
  Image out(image.width, image.height);
  for (int y = 0; y < image.height; ++y) {
    const uint8_t* in = image.row(y) + size_t{3} * image.width;
    uint8_t* target = out.row(y);
    for (int x = 0; x < image.width; ++x, target += 3) std::memcpy(target, in -= 3, 3);
  }
  return out;
}

}  // namespace quench
