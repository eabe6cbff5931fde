#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "base/error.h"
#include "base/random.h"
#include "data/image/random_keys.h"
#include "data/image/source.h"

namespace quench {
namespace {

using Color = std::array<double, 3>;

// Each shape fills about the unit disc: positive inside, in units of its radius from the edge.
struct Shape {
  const char* name;
  double (*depth)(double x, double y);
};

double box(double x, double y, double half_width, double half_height) {
  return std::min(half_width - std::abs(x), half_height - std::abs(y));
}

double disc(double x, double y) { return 1.0 - std::hypot(x, y); }

const std::array<Shape, 10> kShapes{{
    {"disc", disc},
    {"square", [](double x, double y) { return box(x, y, 0.85, 0.85); }},
    {"triangle",
     [](double x, double y) { return std::min(0.7 - y, 0.55 + 0.5 * y - 0.87 * std::abs(x)); }},
    {"cross", [](double x, double y) { return std::max(box(x, y, 1, 0.3), box(x, y, 0.3, 1)); }},
    {"ring", [](double x, double y) { return 0.22 - std::abs(std::hypot(x, y) - 0.78); }},
    {"half disc", [](double x, double y) { return std::min(disc(x, y), y); }},
    {"bars", [](double x, double y) { return box(std::abs(x) - 0.55, y, 0.25, 0.9); }},
    {"angle",
     [](double x, double y) {
       return std::max(box(x + 0.55, y, 0.28, 0.9), box(x, y - 0.62, 0.83, 0.28));
     }},
    {"star",
     [](double x, double y) {
       return 0.68 + 0.32 * std::cos(5 * std::atan2(x, -y)) - std::hypot(x, y);
     }},
    {"dots",
     [](double x, double y) { return 0.38 - std::hypot(std::abs(x) - 0.55, std::abs(y) - 0.55); }},
}};

const std::array<const char*, 4> kColorNames{"red", "green", "blue", "yellow"};
const std::array<Color, 4> kColors{
    {{0.9, 0.15, 0.15}, {0.1, 0.75, 0.2}, {0.15, 0.25, 0.9}, {0.9, 0.85, 0.1}}};

// A colour gradient and faint noise, the same for every class.
Image draw_background(int size, CounterRng& rng) {
  Color base, slope_x, slope_y;
  for (int c = 0; c < 3; ++c) {
    base[c] = 0.3 + 0.4 * rng.uniform();
    slope_x[c] = 0.3 * (rng.uniform() - 0.5);
    slope_y[c] = 0.3 * (rng.uniform() - 0.5);
  }
  Image image(size, size);
  for (int y = 0; y < size; ++y) {
    for (int x = 0; x < size; ++x) {
      const double u = (x + 0.5) / size - 0.5, v = (y + 0.5) / size - 0.5;
      const double noise = 0.08 * (rng.uniform() - 0.5);
      for (int c = 0; c < 3; ++c) {
        const double value = base[c] + slope_x[c] * u + slope_y[c] * v + noise;
        image.row(y)[3 * x + c] = static_cast<uint8_t>(std::lround(255 * value));
      }
    }
  }
  return image;
}

// Bright or dark, so that the shape stands out of the mid-tone background.
Color random_color(CounterRng& rng) {
  const double level = rng.bernoulli(0.5) ? 0.82 : 0.0;
  return {level + 0.18 * rng.uniform(), level + 0.18 * rng.uniform(), level + 0.18 * rng.uniform()};
}

void draw_shape(Image& image, const Shape& shape, const Color& color, CounterRng& rng) {
  const double size = image.width;
  const double radius = size * (0.18 + 0.12 * rng.uniform());
  const double center_x = radius + (size - 2 * radius) * rng.uniform();
  const double center_y = radius + (size - 2 * radius) * rng.uniform();
  const double tilt = (rng.uniform() - 0.5) * std::numbers::pi / 6;
  const double cosine = std::cos(tilt), sine = std::sin(tilt);
  for (int y = 0; y < image.height; ++y) {
    for (int x = 0; x < image.width; ++x) {
      const double dx = (x + 0.5 - center_x) / radius, dy = (y + 0.5 - center_y) / radius;
      const double depth = shape.depth(cosine * dx + sine * dy, cosine * dy - sine * dx);
      const double cover = std::clamp(depth * radius + 0.5, 0.0, 1.0);
      if (cover == 0.0) continue;
      uint8_t* pixel = image.row(y) + size_t{3} * x;
      for (int c = 0; c < 3; ++c) {
        pixel[c] =
            static_cast<uint8_t>(std::lround(pixel[c] + cover * (255 * color[c] - pixel[c])));
      }
    }
  }
}

class SyntheticImages : public ImageSource {
 public:
  SyntheticImages(int64_t size, int64_t classes, int image_size, uint64_t seed)
      : size_(size), image_size_(image_size), seed_(seed) {
    check(size > 0 && image_size >= 8, "synthetic images: ", size, " images of ", image_size,
          " pixels, expected at least 1 image of at least 8 pixels");
    check(classes >= 2 && classes <= kMaxSyntheticClasses, "synthetic images: ", classes,
          " classes, expected 2 to ", kMaxSyntheticClasses);
    colored_ = classes > static_cast<int64_t>(kShapes.size());
    for (int64_t i = 0; i < classes; ++i) {
      const std::string shape = kShapes[i % kShapes.size()].name;
      names_.push_back(colored_ ? kColorNames[i / kShapes.size()] + (" " + shape) : shape);
    }
  }

  int64_t size() const override { return size_; }
  int64_t label(int64_t index) const override { return index % classes(); }
  const std::vector<std::string>& class_names() const override { return names_; }

  Image load(int64_t index) const override {
    CounterRng rng({kSyntheticImage, seed_, static_cast<uint64_t>(index)});
    const auto kind = static_cast<size_t>(label(index));
    Image image = draw_background(image_size_, rng);
    const Color color = colored_ ? kColors[kind / kShapes.size()] : random_color(rng);
    draw_shape(image, kShapes[kind % kShapes.size()], color, rng);
    return image;
  }

 private:
  int64_t size_;
  int image_size_;
  uint64_t seed_;
  bool colored_;
  std::vector<std::string> names_;
};

}  // namespace

ImageSourcePtr synthetic_images(int64_t size, int64_t classes, int image_size, uint64_t seed) {
  return std::make_shared<SyntheticImages>(size, classes, image_size, seed);
}

}  // namespace quench
