// Loops over one row (attention/row_function.h) that several normalizers are made of, to be inlined
// into functions that are compiled for each vector width (base/simd.h).
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>

#include "attention/row_function.h"
#include "base/simd.h"

namespace quench {

// e^x for x <= 0 within 2 ulp; exactly 0 below -87.3.
QUENCH_INLINE float exp_nonpositive(float x) {
  const float clamped = x < -87.3f ? -87.3f : x;
  const float n = std::nearbyintf(clamped * 1.44269504088896341f);
  const float r = (clamped - n * 0.693359375f) + n * 2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.f;
  const float scale = std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
  return x < -87.3f ? 0.f : p * scale;
}

// The largest of `least` and the row.
QUENCH_INLINE float row_max(const float* x, int64_t n, float least) {
  float top = least;
#pragma omp simd reduction(max : top)
  for (int64_t i = 0; i < n; ++i) top = x[i] > top ? x[i] : top;
  return top;
}

// x = softmax of the row and one more score, `extra`, with that weight. Returns that one's share.
QUENCH_INLINE float softmax_row(float* x, int64_t n, float extra, float weight) {
  const float top = row_max(x, n, extra), own = weight * exp_nonpositive(extra - top);
  float sum = own;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    x[i] = exp_nonpositive(x[i] - top);
    sum += x[i];
  }
  const float inverse = 1 / sum;
  for (int64_t i = 0; i < n; ++i) x[i] *= inverse;
  return own * inverse;
}

// grad: d loss / d p -> d loss / d scores. Returns sum_j p_j grad_j.
QUENCH_INLINE float softmax_gradient(const float* __restrict p, float* __restrict grad, int64_t n) {
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < n; ++i) dot += p[i] * grad[i];
  for (int64_t i = 0; i < n; ++i) grad[i] = p[i] * (grad[i] - dot);
  return dot;
}

// p = clip(factor p + gamma, 0, 1)
QUENCH_INLINE void stretch_row(float* p, int64_t n, float factor, float gamma) {
  for (int64_t i = 0; i < n; ++i) p[i] = std::min(std::max(factor * p[i] + gamma, 0.f), 1.f);
}

// The gradient of that and of the softmax before it; p is left stretched.
QUENCH_INLINE void stretched_gradient(float* __restrict p, float* __restrict grad, int64_t n,
                                      float factor, float gamma) {
  for (int64_t i = 0; i < n; ++i) {
    const float y = factor * p[i] + gamma;
    grad[i] = ((y >= 0.f) & (y <= 1.f)) ? grad[i] * factor : 0.f;
  }
  softmax_gradient(p, grad, n);
  stretch_row(p, n, factor, gamma);
}

}  // namespace quench
