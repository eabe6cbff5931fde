#include "data/image/pixel_ops.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

namespace quench {
namespace {

using Table = std::array<uint8_t, 256>;

Table identity_table() {
  Table table;
  std::iota(table.begin(), table.end(), uint8_t{0});
  return table;
}

Image apply_tables(const Image& image, const std::array<Table, 3>& tables) {
  Image out(image.width, image.height);
  for (size_t i = 0; i < image.rgb.size(); i += 3) {
    for (size_t c = 0; c < 3; ++c) out.rgb[i + c] = tables[c][image.rgb[i + c]];
  }
  return out;
}

template <class Function>
Image map_values(const Image& image, Function function) {
  Table table;
  for (int v = 0; v < 256; ++v) table[v] = static_cast<uint8_t>(function(v));
  return apply_tables(image, {table, table, table});
}

using Histogram = std::array<int64_t, 256>;

std::array<Histogram, 3> histograms(const Image& image) {
  std::array<Histogram, 3> counts{};
  for (size_t i = 0; i < image.rgb.size(); i += 3) {
    for (size_t c = 0; c < 3; ++c) ++counts[c][image.rgb[i + c]];
  }
  return counts;
}

template <class Function>
Image map_by_histogram(const Image& image, Function table_of) {
  const auto counts = histograms(image);
  return apply_tables(image, {table_of(counts[0]), table_of(counts[1]), table_of(counts[2])});
}

// ITU-R 601 luma in 16-bit fixed point.
uint8_t luma(const uint8_t* rgb) {
  return static_cast<uint8_t>((rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000) >> 16);
}

// Single precision and truncation, as Image.blend.
uint8_t blend(uint8_t degenerate, uint8_t original, float factor) {
  const float value =
      static_cast<float>(degenerate) + factor * static_cast<float>(int{original} - int{degenerate});
  return static_cast<uint8_t>(std::clamp(value, 0.0f, 255.0f));
}

// ImageFilter.SMOOTH: a 3x3 mean with weight 5 in the middle; the border keeps its pixels. A
// thirteenth never lies halfway between integers, so integer rounding equals PIL's in floating
// point.
Image smooth(const Image& image) {
  Image out = image;
  for (int y = 1; y + 1 < image.height; ++y) {
    const uint8_t *above = image.row(y - 1), *here = image.row(y), *below = image.row(y + 1);
    uint8_t* target = out.row(y);
    for (int x = 3; x < 3 * (image.width - 1); ++x) {
      const int sum = above[x - 3] + above[x] + above[x + 3] + here[x - 3] + 5 * here[x] +
                      here[x + 3] + below[x - 3] + below[x] + below[x + 3];
      target[x] = static_cast<uint8_t>((2 * sum + 13) / 26);
    }
  }
  return out;
}

// What PIL's two transform filters give at the fraction `t` between the middle ones of their taps.
struct Linear {
  static constexpr int kTaps = 2;
  template <class T>
  static double at(const T* v, double t) {
    return v[0] + (v[1] - v[0]) * t;
  }
};

struct Cubic {
  static constexpr int kTaps = 4;
  template <class T>
  static double at(const T* v, double t) {
    const T p2 = v[2] - v[0];
    const T p3 = 2 * (v[0] - v[1]) + v[2] - v[3];
    const T p4 = v[1] - v[0] - v[2] + v[3];
    return v[1] + t * (p2 + t * (p3 + t * p4));
  }
};

int floor_to_int(double value) {
  const int truncated = static_cast<int>(value);
  return truncated - (value < truncated);
}

// Interpolates at a point inside the image; taps beyond the border repeat it.
template <class Filter>
void sample(const Image& image, double x, double y, uint8_t* out) {
  constexpr int kTaps = Filter::kTaps;
  const int column = floor_to_int(x - 0.5), row = floor_to_int(y - 0.5);
  const int left = column - (kTaps / 2 - 1), top = row - (kTaps / 2 - 1);
  size_t columns[kTaps];
  for (int i = 0; i < kTaps; ++i) {
    columns[i] = size_t{3} * std::clamp(left + i, 0, image.width - 1);
  }
  double lines[3][kTaps];
  for (int i = 0; i < kTaps; ++i) {
    const uint8_t* in = image.row(std::clamp(top + i, 0, image.height - 1));
    for (int c = 0; c < 3; ++c) {
      int taps[kTaps];
      for (int k = 0; k < kTaps; ++k) taps[k] = in[columns[k] + c];
      lines[c][i] = Filter::at(taps, x - 0.5 - column);
    }
  }
  for (int c = 0; c < 3; ++c) {
    const double value = Filter::at(lines[c], y - 0.5 - row);
    out[c] = static_cast<uint8_t>(std::clamp(value, 0.0, 255.0));
  }
}

template <class Filter>
Image transform(const Image& image, const std::array<double, 6>& matrix,
                const std::array<uint8_t, 3>& fill) {
  Image out(image.width, image.height);
  for (int y = 0; y < image.height; ++y) {
    uint8_t* target = out.row(y);
    for (int x = 0; x < image.width; ++x, target += 3) {
      const double in_x = matrix[0] * (x + 0.5) + matrix[1] * (y + 0.5) + matrix[2];
      const double in_y = matrix[3] * (x + 0.5) + matrix[4] * (y + 0.5) + matrix[5];
      if (in_x < 0.0 || in_x >= image.width || in_y < 0.0 || in_y >= image.height) {
        std::copy(fill.begin(), fill.end(), target);
      } else {
        sample<Filter>(image, in_x, in_y, target);
      }
    }
  }
  return out;
}

}  // namespace

Image adjust_brightness(const Image& image, double factor) {
  return map_values(
      image, [&](int v) { return blend(0, static_cast<uint8_t>(v), static_cast<float>(factor)); });
}

Image adjust_contrast(const Image& image, double factor) {
  int64_t sum = 0;
  for (size_t i = 0; i < image.rgb.size(); i += 3) sum += luma(&image.rgb[i]);
  const double pixels = static_cast<double>(image.rgb.size() / 3);
  const auto mean = static_cast<uint8_t>(static_cast<double>(sum) / pixels + 0.5);
  return map_values(image, [&](int v) {
    return blend(mean, static_cast<uint8_t>(v), static_cast<float>(factor));
  });
}

Image adjust_color(const Image& image, double factor) {
  Image out(image.width, image.height);
  for (size_t i = 0; i < image.rgb.size(); i += 3) {
    const uint8_t grey = luma(&image.rgb[i]);
    for (size_t c = i; c < i + 3; ++c) {
      out.rgb[c] = blend(grey, image.rgb[c], static_cast<float>(factor));
    }
  }
  return out;
}

Image adjust_sharpness(const Image& image, double factor) {
  Image out = smooth(image);
  for (size_t i = 0; i < image.rgb.size(); ++i) {
    out.rgb[i] = blend(out.rgb[i], image.rgb[i], static_cast<float>(factor));
  }
  return out;
}

Image auto_contrast(const Image& image) {
  return map_by_histogram(image, [](const Histogram& counts) {
    Table table = identity_table();
    int low = 0, high = 255;
    while (low < 255 && counts[low] == 0) ++low;
    while (high > 0 && counts[high] == 0) --high;
    if (high <= low) return table;
    const double scale = 255.0 / (high - low);
    const double offset = -low * scale;
    for (int v = 0; v < 256; ++v) {
      table[v] = static_cast<uint8_t>(std::clamp(static_cast<int>(v * scale + offset), 0, 255));
    }
    return table;
  });
}

Image equalize(const Image& image) {
  return map_by_histogram(image, [](const Histogram& counts) {
    Table table = identity_table();
    int64_t total = 0, last = 0;
    for (int64_t count : counts) {
      total += count;
      if (count != 0) last = count;
    }
    const int64_t step = (total - last) / 255;
    if (step == 0) return table;
    int64_t sum = step / 2;
    for (int v = 0; v < 256; ++v) {
      table[v] = static_cast<uint8_t>(std::min<int64_t>(sum / step, 255));
      sum += counts[v];
    }
    return table;
  });
}

Image invert(const Image& image) {
  return map_values(image, [](int v) { return 255 - v; });
}

Image posterize(const Image& image, int bits) {
  return map_values(image, [&](int v) { return v & ~((1 << (8 - bits)) - 1); });
}

Image solarize(const Image& image, int threshold) {
  return map_values(image, [&](int v) { return v < threshold ? v : 255 - v; });
}

Image solarize_add(const Image& image, int addition) {
  return map_values(image, [&](int v) { return v < 128 ? std::min(255, v + addition) : v; });
}

Image affine(const Image& image, const std::array<double, 6>& matrix, Interpolation filter,
             const std::array<uint8_t, 3>& fill) {
  return filter == Interpolation::kBicubic ? transform<Cubic>(image, matrix, fill)
                                           : transform<Linear>(image, matrix, fill);
}

Image rotate(const Image& image, double degrees, Interpolation filter,
             const std::array<uint8_t, 3>& fill) {
  const double angle = -degrees * std::numbers::pi / 180.0;
  const auto round15 = [](double v) { return std::nearbyint(v * 1e15) / 1e15; };  // as PIL
  const double cosine = round15(std::cos(angle)), sine = round15(std::sin(angle));
  const double x = image.width / 2.0, y = image.height / 2.0;
  return affine(image,
                {cosine, sine, cosine * -x + sine * -y + x,  //
                 -sine, cosine, -sine * -x + cosine * -y + y},
                filter, fill);
}

}  // namespace quench
