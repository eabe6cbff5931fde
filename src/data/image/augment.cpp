#include "data/image/augment.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "data/image/pixel_ops.h"

namespace quench {
namespace {

double uniform(double low, double high, CounterRng& rng) {
  return low + (high - low) * rng.uniform();
}

// Python's round: halves to even.
int rounded(double value) { return static_cast<int>(std::nearbyint(value)); }

Interpolation parse_interpolation(const std::string& name) {
  return name == "bilinear" ? Interpolation::kBilinear : Interpolation::kBicubic;
}

Interpolation draw_interpolation(const std::string& name, CounterRng& rng) {
  if (name != "random") return parse_interpolation(name);
  return rng.bernoulli(0.5) ? Interpolation::kBilinear : Interpolation::kBicubic;
}

// The sides of a rectangle with a share of `area` and an aspect ratio (first / second side) drawn
// from their ranges; it need not fit.
std::pair<int, int> random_rectangle(double area, std::span<const double> share,
                                     std::span<const double> ratio, CounterRng& rng) {
  const double target = uniform(share[0], share[1], rng) * area;
  const double aspect = std::exp(uniform(std::log(ratio[0]), std::log(ratio[1]), rng));
  return {rounded(std::sqrt(target * aspect)), rounded(std::sqrt(target / aspect))};
}

int random_offset(int room, CounterRng& rng) { return static_cast<int>(rng.below(room + 1)); }

}  // namespace

Box random_crop_box(int width, int height, std::span<const double> scale,
                    std::span<const double> ratio, CounterRng& rng) {
  const double area = static_cast<double>(width) * height;
  for (int attempt = 0; attempt < 10; ++attempt) {
    const auto [w, h] = random_rectangle(area, scale, ratio, rng);
    if (w < 1 || h < 1 || w > width || h > height) continue;
    const int top = random_offset(height - h, rng);
    return {random_offset(width - w, rng), top, w, h};
  }
  const double aspect = static_cast<double>(width) / height;
  const int w = aspect > ratio[1] ? std::max(1, rounded(height * ratio[1])) : width;
  const int h = aspect < ratio[0] ? std::max(1, rounded(width / ratio[0])) : height;
  return {(width - w) / 2, (height - h) / 2, w, h};
}

Image jitter_colors(Image image, double jitter, CounterRng& rng) {
  using Adjust = Image (*)(const Image&, double);
  std::array<Adjust, 3> steps{adjust_brightness, adjust_contrast, adjust_color};
  for (size_t i = steps.size(); i > 1; --i) std::swap(steps[i - 1], steps[rng.below(i)]);
  for (Adjust step : steps) {
    image = step(image, uniform(std::max(0.0, 1.0 - jitter), 1.0 + jitter, rng));
  }
  return image;
}

Image apply_rand_op(const Image& image, RandOp op, double level, bool negate,
                    Interpolation interpolation, const std::array<uint8_t, 3>& fill) {
  const double share = level / 10.0;
  const double sign = negate ? -1.0 : 1.0;
  const double factor = std::max(0.1, 1.0 + sign * share * 0.9);
  const double shear = sign * share * 0.3;
  const double shift = sign * share * 0.45;
  const auto transform = [&](const std::array<double, 6>& matrix) {
    return affine(image, matrix, interpolation, fill);
  };
  switch (op) {
    case RandOp::kAutoContrast:
      return auto_contrast(image);
    case RandOp::kEqualize:
      return equalize(image);
    case RandOp::kInvert:
      return invert(image);
    case RandOp::kRotate:
      return rotate(image, sign * share * 30.0, interpolation, fill);
    case RandOp::kPosterize:
      return posterize(image, 4 - static_cast<int>(share * 4));
    case RandOp::kSolarize:
      return solarize(image, 256 - static_cast<int>(share * 256));
    case RandOp::kSolarizeAdd:
      return solarize_add(image, static_cast<int>(share * 110));
    case RandOp::kColor:
      return adjust_color(image, factor);
    case RandOp::kContrast:
      return adjust_contrast(image, factor);
    case RandOp::kBrightness:
      return adjust_brightness(image, factor);
    case RandOp::kSharpness:
      return adjust_sharpness(image, factor);
    case RandOp::kShearX:
      return transform({1, shear, 0, 0, 1, 0});
    case RandOp::kShearY:
      return transform({1, 0, 0, shear, 1, 0});
    case RandOp::kTranslateX:
      return transform({1, 0, shift * image.width, 0, 1, 0});
    case RandOp::kTranslateY:
      return transform({1, 0, 0, 0, 1, shift * image.height});
  }
  fail("RandAugment: no operation ", static_cast<int>(op));
}

Image rand_augment(Image image, const ImageOptions& options, CounterRng& rng) {
  std::array<uint8_t, 3> fill;
  for (size_t c = 0; c < 3; ++c) {
    fill[c] = static_cast<uint8_t>(std::min(255, rounded(255 * options.mean[c])));
  }
  for (int64_t i = 0; i < options.randaugment_ops; ++i) {
    const auto op = static_cast<RandOp>(rng.below(kRandOps));
    if (rng.bernoulli(0.5)) continue;
    const double level = std::clamp(
        options.randaugment_magnitude + options.randaugment_std * rng.normal(), 0.0, 10.0);
    const bool negate = rng.bernoulli(0.5);
    const Interpolation interpolation = draw_interpolation(options.train_interpolation, rng);
    image = apply_rand_op(image, op, level, negate, interpolation, fill);
  }
  return image;
}

Image transform_for_training(const Image& image, const ImageOptions& options, CounterRng& rng) {
  const int size = static_cast<int>(options.image_size);
  const Box box =
      random_crop_box(image.width, image.height, options.crop_scale, options.crop_ratio, rng);
  Image out = resize(image, box, size, size, draw_interpolation(options.train_interpolation, rng));
  if (rng.bernoulli(options.flip_probability)) out = flip_horizontal(out);
  if (options.randaugment_ops > 0) return rand_augment(std::move(out), options, rng);
  if (options.color_jitter > 0) return jitter_colors(std::move(out), options.color_jitter, rng);
  return out;
}

int shorter_side(const ImageOptions& options) {
  return static_cast<int>(std::floor(static_cast<double>(options.image_size) / options.crop_pct));
}

Image transform_for_evaluation(const Image& image, const ImageOptions& options) {
  const Interpolation interpolation = parse_interpolation(options.interpolation);
  return resize_and_center_crop(image, shorter_side(options), static_cast<int>(options.image_size),
                                interpolation);
}

void normalize(const Image& image, const ImageOptions& options, float* planes) {
  const size_t pixels = image.rgb.size() / 3;
  for (size_t c = 0; c < 3; ++c) {
    const auto mean = static_cast<float>(options.mean[c]);
    const auto deviation = static_cast<float>(options.std[c]);
    std::array<float, 256> table;
    for (int v = 0; v < 256; ++v) table[v] = (static_cast<float>(v) / 255.0f - mean) / deviation;
    for (size_t i = 0; i < pixels; ++i) planes[c * pixels + i] = table[image.rgb[3 * i + c]];
  }
}

void erase_randomly(float* planes, int size, double probability, CounterRng& rng) {
  if (!rng.bernoulli(probability)) return;
  constexpr std::array<double, 2> kShare{0.02, 1.0 / 3.0}, kRatio{0.3, 1.0 / 0.3};
  for (int attempt = 0; attempt < 10; ++attempt) {
    const auto [h, w] = random_rectangle(static_cast<double>(size) * size, kShare, kRatio, rng);
    if (w >= size || h >= size) continue;
    const int top = random_offset(size - h, rng), left = random_offset(size - w, rng);
    for (int c = 0; c < 3; ++c) {
      for (int y = top; y < top + h; ++y) {
        float* row = planes + (static_cast<size_t>(c) * size + y) * size;
        std::generate(row + left, row + left + w, [&] { return static_cast<float>(rng.normal()); });
      }
    }
    return;
  }
}

}  // namespace quench
