// Resampling, cropping and flipping. Resampling is PIL's: a separable filter that is stretched by
// the reduction factor (antialiasing) and evaluated in 22-bit fixed point, horizontal pass first;
// the result equals that of Pillow up to 12 byte for byte (13 turns the passes round where it
// pays).
#pragma once

#include "data/image/image.h"

namespace quench {

enum class Interpolation { kBilinear, kBicubic };

// The part of `image` inside `box` as an image of its own (pixels outside do not bleed in), scaled.
Image resize(const Image& image, const Box& box, int width, int height, Interpolation filter);
Image resize(const Image& image, int width, int height, Interpolation filter);

// Shorter side becomes `size`, the longer one follows (rounded down, as torchvision).
Image resize_shorter_side(const Image& image, int size, Interpolation filter);

// The central square; a picture smaller than it is padded with black, as torchvision.
Image center_crop(const Image& image, int size);

Image flip_horizontal(const Image& image);

}  // namespace quench
