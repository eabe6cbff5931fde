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
// Only the part of the result that lies inside `window`; no more is computed or kept.
Image resize(const Image& image, const Box& box, int width, int height, Interpolation filter,
             const Box& window);

// Shorter side becomes `shorter_side`, the longer one follows (rounded down, as torchvision); of
// that the central square of `size` <= `shorter_side`. Takes no more memory than the square needs,
// whatever the picture's shape.
Image resize_and_center_crop(const Image& image, int shorter_side, int size, Interpolation filter);

Image flip_horizontal(const Image& image);

}  // namespace quench
