// JPEG (libjpeg-turbo), PNG (libpng) and WebP (libwebp, no animations) to RGB, with the pixels that
// PIL's `Image.open(f).convert("RGB")` gives: grey is replicated, alpha dropped, CMYK and YCCK
// follow Adobe's inverted convention, EXIF orientation is ignored. 16-bit samples keep their high
// byte (PIL saturates the grey ones at 255).
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "data/image/image.h"

namespace quench {

// The format is told from the first bytes; `name` stands for the picture in error messages.
// Throws Error when the bytes are truncated, corrupt or of another format.
Image decode_image(std::span<const uint8_t> bytes, const std::string& name);

Image read_image(const std::string& path);

}  // namespace quench
