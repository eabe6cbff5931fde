#include "nn/transpose.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstring>

#include "base/simd.h"

namespace quench {
namespace {

constexpr int64_t kSide = 8;   // of a tile that fits the vector registers
constexpr int64_t kRows = 64;  // rows at a time: their tiles fill whole cache lines of the result

typedef float Vector __attribute__((vector_size(kSide * sizeof(float))));

// 8 rows of 8, `source_stride` and `target_stride` floats apart: pairs, then fours, then halves
// change places.
inline __attribute__((always_inline)) void transpose_tile(const float* source,
                                                          int64_t source_stride, float* target,
                                                          int64_t target_stride) {
  Vector a[kSide], b[kSide];
  for (int64_t i = 0; i < kSide; ++i) std::memcpy(&a[i], source + i * source_stride, sizeof(a[i]));
  for (int64_t i = 0; i < kSide; i += 2) {
    b[i] = __builtin_shufflevector(a[i], a[i + 1], 0, 8, 1, 9, 4, 12, 5, 13);
    b[i + 1] = __builtin_shufflevector(a[i], a[i + 1], 2, 10, 3, 11, 6, 14, 7, 15);
  }
  for (int64_t i = 0; i < kSide; i += 4)
    for (int64_t j = 0; j < 2; ++j) {
      const Vector &low = b[i + j], &high = b[i + j + 2];
      a[i + 2 * j] = __builtin_shufflevector(low, high, 0, 1, 8, 9, 4, 5, 12, 13);
      a[i + 2 * j + 1] = __builtin_shufflevector(low, high, 2, 3, 10, 11, 6, 7, 14, 15);
    }
  for (int64_t i = 0; i < kSide / 2; ++i) {
    b[i] = __builtin_shufflevector(a[i], a[i + 4], 0, 1, 2, 3, 8, 9, 10, 11);
    b[i + 4] = __builtin_shufflevector(a[i], a[i + 4], 4, 5, 6, 7, 12, 13, 14, 15);
  }
  for (int64_t i = 0; i < kSide; ++i) std::memcpy(target + i * target_stride, &b[i], sizeof(b[i]));
}

// target [n, m] gets columns [begin, end) of source [m, n].
QUENCH_SIMD void transpose_columns(const float* source, float* target, int64_t m, int64_t n,
                                   int64_t begin, int64_t end) {
  const int64_t whole_rows = m / kSide * kSide, whole_end = begin + (end - begin) / kSide * kSide;
  for (int64_t top = 0; top < whole_rows; top += kRows)
    for (int64_t column = begin; column < whole_end; column += kSide)
      for (int64_t row = top; row < std::min(whole_rows, top + kRows); row += kSide)
        transpose_tile(source + row * n + column, n, target + column * m + row, m);
  for (int64_t column = begin; column < end; ++column)
    for (int64_t row = column < whole_end ? whole_rows : 0; row < m; ++row)
      target[column * m + row] = source[row * n + column];
}

}  // namespace

at::Tensor transposed(const at::Tensor& x) {
  const at::Tensor source = x.detach().contiguous();
  const int64_t m = source.size(0), n = source.size(1);
  at::Tensor result = at::empty({n, m}, source.options());
  const float* from = source.const_data_ptr<float>();
  float* to = result.mutable_data_ptr<float>();
  at::parallel_for(0, (n + kSide - 1) / kSide, kRows / kSide, [&](int64_t begin, int64_t end) {
    transpose_columns(from, to, m, n, begin * kSide, std::min(end * kSide, n));
  });
  return result;
}

}  // namespace quench
