// The operations of timm's RandAugment and torchvision's colour jitter on 8-bit images, each with
// the rounding of the PIL function it is named after.
#pragma once

#include <array>

#include "data/image/image.h"
#include "data/image/resize.h"

namespace quench {

// ImageEnhance: blends towards a degenerate picture; 0 gives that picture, 1 the original.
Image adjust_brightness(const Image& image, double factor);  // black
Image adjust_contrast(const Image& image, double factor);    // the mean grey
Image adjust_color(const Image& image, double factor);  // the grey picture; torchvision: saturation
Image adjust_sharpness(const Image& image, double factor);  // the smoothed picture

// ImageOps.
Image auto_contrast(const Image& image);
Image equalize(const Image& image);
Image invert(const Image& image);
Image posterize(const Image& image, int bits);         // keeps `bits` high bits, 0..8
Image solarize(const Image& image, int threshold);     // inverts values >= threshold
Image solarize_add(const Image& image, int addition);  // adds below 128

// Image.transform(AFFINE): output (x, y) reads input (a x + b y + c, d x + e y + f) for the
// row-major matrix {a, b, c, d, e, f}; `fill` where that lies outside.
Image affine(const Image& image, const std::array<double, 6>& matrix, Interpolation filter,
             const std::array<uint8_t, 3>& fill);

// Image.rotate: counter-clockwise about the centre, the size stays.
Image rotate(const Image& image, double degrees, Interpolation filter,
             const std::array<uint8_t, 3>& fill);

}  // namespace quench
