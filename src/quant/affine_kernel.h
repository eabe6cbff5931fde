// The arithmetic of affine.h on one float, branch-free so that loops over it vectorize.
// Bit-identical to the composed definition as long as the compiler fuses no multiply-add
// (-ffp-contract=off).
#pragma once

#include "quant/affine.h"

namespace quench {

struct ScalarAffine {
  float scale, zero_point, int_min, int_max;
};

// Of one range.
inline ScalarAffine scalar_affine(const Affine& affine) {
  return {affine.scale.item<float>(), affine.zero_point.item<float>(), affine.int_min.item<float>(),
          affine.int_max.item<float>()};
}

// Written so that a NaN `value` survives.
inline float clamp_keeping_nan(float value, float low, float high) {
  value = low > value ? low : value;
  return high < value ? high : value;
}

inline float fake_quantize_scalar(float x, const ScalarAffine& a) {
  // Adding 1.5 * 2^23 leaves no fraction bits, so the sum rounds half to even. That holds for
  // |x / scale| < 2^22; values beyond 2^20 are off every grid of up to 16 bits anyway.
  constexpr float kRounder = 12582912.0f;
  constexpr float kOffGrid = 1048576.0f;
  const float rounded = (clamp_keeping_nan(x / a.scale, -kOffGrid, kOffGrid) + kRounder) - kRounder;
  const float q = clamp_keeping_nan(rounded + a.zero_point, a.int_min, a.int_max);
  return a.scale * (q - a.zero_point);
}

}  // namespace quench
