// One picture's way from the source to the model: timm's `create_transform`, training and
// evaluation. Everything random is drawn from the generator that is passed in, so the result is a
// pure function of the picture, the options and the generator's key.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

#include "base/random.h"
#include "data/image/image.h"
#include "data/image/options.h"
#include "data/image/resize.h"

namespace quench {

// The rectangle of torchvision's RandomResizedCrop: area and log aspect ratio uniform; after ten
// rectangles that do not fit, the largest central one within the ratios.
Box random_crop_box(int width, int height, std::span<const double> scale,
                    std::span<const double> ratio, CounterRng& rng);

// torchvision's ColorJitter(jitter, jitter, jitter): brightness, contrast and saturation, each by a
// factor in [1 - jitter, 1 + jitter], in random order.
Image jitter_colors(Image image, double jitter, CounterRng& rng);

// The operations of timm's "inc1" set, in its order.
enum class RandOp {
  kAutoContrast,
  kEqualize,
  kInvert,
  kRotate,
  kPosterize,
  kSolarize,
  kSolarizeAdd,
  kColor,
  kContrast,
  kBrightness,
  kSharpness,
  kShearX,
  kShearY,
  kTranslateX,
  kTranslateY,
};
inline constexpr int kRandOps = 15;

// One operation at `level` in [0, 10]; `negate` turns or shears the other way, or weakens the
// colour.
Image apply_rand_op(const Image& image, RandOp op, double level, bool negate,
                    Interpolation interpolation, const std::array<uint8_t, 3>& fill);

// timm's `rand-m{magnitude}-n{ops}-mstd{std}-inc1`: `ops` random operations, each applied with
// probability 1/2 at a level drawn from N(magnitude, std), clipped to [0, 10].
Image rand_augment(Image image, const ImageOptions& options, CounterRng& rng);

// Crop, resize, flip, then RandAugment or colour jitter.
Image transform_for_training(const Image& image, const ImageOptions& options, CounterRng& rng);

// Resizes the shorter side to shorter_side(), then takes the central square.
int shorter_side(const ImageOptions& options);
Image transform_for_evaluation(const Image& image, const ImageOptions& options);

// (value / 255 - mean) / std as planes [3, height, width].
void normalize(const Image& image, const ImageOptions& options, float* planes);

// Random erasing of normalised planes [3, size, size], `pixel` mode: one rectangle of 2 % to 1/3 of
// the area and aspect ratio 0.3 to 1/0.3 becomes standard normal noise.
void erase_randomly(float* planes, int size, double probability, CounterRng& rng);

}  // namespace quench
