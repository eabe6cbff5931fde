#include "attention/fused_cpu.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <vector>

#include "base/simd.h"
#include "nn/dropout.h"

// LibTorch's own BLAS.
extern "C" void sgemm_(const char* transa, const char* transb, const int* m, const int* n,
                       const int* k, const float* alpha, const float* a, const int* lda,
                       const float* b, const int* ldb, const float* beta, float* c, const int* ldc);

namespace quench {
namespace {

// Row-major C [m, n] = alpha A B + beta C with A [m, k] or its transpose, B [k, n] or its
// transpose.
void gemm(bool transpose_a, bool transpose_b, int64_t m, int64_t n, int64_t k, float alpha,
          const float* a, int64_t lda, const float* b, int64_t ldb, float beta, float* c,
          int64_t ldc) {
  const int mi = static_cast<int>(m), ni = static_cast<int>(n), ki = static_cast<int>(k);
  const int la = static_cast<int>(lda), lb = static_cast<int>(ldb), lc = static_cast<int>(ldc);
  sgemm_(transpose_b ? "T" : "N", transpose_a ? "T" : "N", &ni, &mi, &ki, &alpha, b, &lb, a, &la,
         &beta, c, &lc);
}

// e^x for x <= 0 within 2 ulp; exactly 0 below -87.3.
inline __attribute__((always_inline)) float exp_nonpositive(float x) {
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

// Scores -> probabilities, in place.
QUENCH_SIMD void softmax_row(float* x, int64_t n) {
  float top = -FLT_MAX;
#pragma omp simd reduction(max : top)
  for (int64_t i = 0; i < n; ++i) top = x[i] > top ? x[i] : top;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) {
    x[i] = exp_nonpositive(x[i] - top);
    sum += x[i];
  }
  const float inverse = 1 / sum;
  for (int64_t i = 0; i < n; ++i) x[i] *= inverse;
}

// What one row of probabilities goes through after the softmax. Passed by value: behind a
// reference, every store of a float might change it.
struct RowTransform {
  float factor, gamma;  // clip(factor p + gamma, 0, 1)
  bool clip;
  bool drop;
  uint32_t threshold;
  float keep_scale;

  float kept(uint64_t key, uint32_t element) const {
    return dropout_hash(key, element) >= threshold ? keep_scale : 0.f;
  }
};

// p = dropout(clip(stretch(p))).
QUENCH_SIMD void transform_row(float* p, int64_t n, const RowTransform t, uint64_t key,
                               uint32_t first) {
  if (t.clip)
    for (int64_t i = 0; i < n; ++i) p[i] = std::min(std::max(t.factor * p[i] + t.gamma, 0.f), 1.f);
  if (t.drop)
    for (int64_t i = 0; i < n; ++i) p[i] *= t.kept(key, first + static_cast<uint32_t>(i));
}

// out = dropout(clip(stretch(p))) once more, and its gradient: grad holds d loss / d out, and
// receives d loss / d scores.
QUENCH_SIMD void backward_row(const float* __restrict p, float* __restrict out,
                              float* __restrict grad, int64_t n, const RowTransform t, uint64_t key,
                              uint32_t first) {
  std::copy(p, p + n, out);
  if (t.clip)
    for (int64_t i = 0; i < n; ++i) {
      const float y = t.factor * p[i] + t.gamma;
      out[i] = std::min(std::max(y, 0.f), 1.f);
      grad[i] = ((y >= 0.f) & (y <= 1.f)) ? grad[i] * t.factor : 0.f;
    }
  if (t.drop)
    for (int64_t i = 0; i < n; ++i) {
      const float kept = t.kept(key, first + static_cast<uint32_t>(i));
      out[i] *= kept;
      grad[i] *= kept;
    }
  float dot = 0;
#pragma omp simd reduction(+ : dot)
  for (int64_t i = 0; i < n; ++i) dot += p[i] * grad[i];
  for (int64_t i = 0; i < n; ++i) grad[i] = p[i] * (grad[i] - dot);
}

// One attention call on raw memory; rows of query, key, value and their gradients are `3 D` apart.
struct Problem {
  int64_t batch, length, width, heads;
  bool causal;
  const bool* key_mask;  // [B, T] or null
  RowTransform transform;
  DropoutSite site;

  int64_t head_size() const { return width / heads; }
  int64_t stride() const { return 3 * width; }
  // Rows of scores at a time: at T = 512 a block of 128 takes 256 kB. Small causal blocks compute
  // fewer scores beyond the diagonal.
  int64_t block() const { return std::min<int64_t>(causal ? 64 : 128, length); }
  float scale() const { return 1 / std::sqrt(static_cast<float>(head_size())); }
  // Keys that rows [.., end) can see. A row whose allowed keys are all masked sees every key, the
  // future included.
  int64_t keys(int64_t end) const { return causal && !key_mask ? std::min(end, length) : length; }
  // Of these n keys, those that one row can see.
  int64_t seen(int64_t row, int64_t n) const { return std::min(keys(row + 1), n); }

  uint64_t row_key(int64_t head_index, int64_t row, uint32_t& first) const {
    const int64_t head_of_step = site.first_sample * heads + head_index;
    const uint64_t element =
        static_cast<uint64_t>(head_of_step * length + row) * static_cast<uint64_t>(length);
    first = static_cast<uint32_t>(element);
    return dropout_block_key(site.key, element >> 32);
  }

  // The reference bounds causal scores from below by a maximum, whose gradient is halved at a tie:
  // what reaches a row without any visible key goes half through where one mask applies, and not at
  // all where both do.
  void halve_ties(int64_t b, int64_t row, int64_t n, float* grad) const {
    if (!causal || !key_mask) return;
    const bool* keys = key_mask + b * length;
    if (std::find(keys, keys + row + 1, true) != keys + row + 1) return;
    for (int64_t j = 0; j < n; ++j) grad[j] *= j > row && !keys[j] ? 0.f : 0.5f;
  }

  // p [rows, n] = softmax of the masked scores of query rows [begin, begin + rows).
  void probabilities(const float* qkv, int64_t b, int64_t begin, int64_t rows, int64_t n,
                     float* p) const {
    gemm(false, true, rows, n, head_size(), scale(), qkv + begin * stride(), stride(), qkv + width,
         stride(), 0, p, n);
    for (int64_t r = 0; r < rows; ++r) {
      float* row = p + r * n;
      const int64_t m = seen(begin + r, n);
      if (key_mask) {
        if (causal) std::fill(row + std::min(begin + r + 1, n), row + n, -FLT_MAX);
        for (int64_t j = 0; j < n; ++j) row[j] = key_mask[b * length + j] ? row[j] : -FLT_MAX;
      }
      softmax_row(row, m);
      std::fill(row + m, row + n, 0.f);
    }
  }

  void forward(const float* qkv, float* context) const;
  void backward(const float* qkv, const float* grad_context, float* grad_qkv) const;
};

void Problem::forward(const float* qkv, float* context) const {
  const int64_t d = head_size();
  at::parallel_for(0, batch * heads, 1, [&](int64_t first_item, int64_t last_item) {
    std::vector<float> p(static_cast<size_t>(block() * length));
    for (int64_t item = first_item; item < last_item; ++item) {
      const int64_t b = item / heads, h = item % heads;
      const float* q = qkv + b * length * stride() + h * d;
      for (int64_t begin = 0; begin < length; begin += block()) {
        const int64_t rows = std::min(block(), length - begin), n = keys(begin + rows);
        probabilities(q, b, begin, rows, n, p.data());
        for (int64_t r = 0; r < rows; ++r) {
          uint32_t first;
          const uint64_t key = row_key(item, begin + r, first);
          transform_row(p.data() + r * n, seen(begin + r, n), transform, key, first);
        }
        gemm(false, false, rows, d, n, 1, p.data(), n, q + 2 * width, stride(), 0,
             context + (b * length + begin) * width + h * d, width);
      }
    }
  });
}

void Problem::backward(const float* qkv, const float* grad_context, float* grad_qkv) const {
  const int64_t d = head_size();
  at::parallel_for(0, batch * heads, 1, [&](int64_t first_item, int64_t last_item) {
    const size_t size = static_cast<size_t>(block() * length);
    std::vector<float> p(size), dropped(size), grad(size);
    for (int64_t item = first_item; item < last_item; ++item) {
      const int64_t b = item / heads, h = item % heads;
      const float* q = qkv + b * length * stride() + h * d;
      float* grad_q = grad_qkv + b * length * stride() + h * d;
      for (int64_t begin = 0; begin < length; begin += block()) {
        const int64_t rows = std::min(block(), length - begin), n = keys(begin + rows);
        const float* grad_rows = grad_context + (b * length + begin) * width + h * d;
        probabilities(q, b, begin, rows, n, p.data());
        gemm(false, true, rows, n, d, 1, grad_rows, width, q + 2 * width, stride(), 0, grad.data(),
             n);
        for (int64_t r = 0; r < rows; ++r) {
          uint32_t first;
          const uint64_t key = row_key(item, begin + r, first);
          float *row = dropped.data() + r * n, *grad_row = grad.data() + r * n;
          const int64_t m = seen(begin + r, n);
          backward_row(p.data() + r * n, row, grad_row, m, transform, key, first);
          std::fill(row + m, row + n, 0.f);
          std::fill(grad_row + m, grad_row + n, 0.f);
          halve_ties(b, begin + r, n, grad_row);
        }
        // The first block writes, later ones add; a causal first block leaves the later keys' rows
        // to be zeroed.
        const bool add = begin > 0;
        if (!add)
          for (int64_t j = n; j < length; ++j)
            for (int64_t part = 1; part < 3; ++part)
              std::fill_n(grad_q + j * stride() + part * width, d, 0.f);
        gemm(true, false, n, d, rows, 1, dropped.data(), n, grad_rows, width, add,
             grad_q + 2 * width, stride());
        gemm(true, false, n, d, rows, scale(), grad.data(), n, q + begin * stride(), stride(), add,
             grad_q + width, stride());
        gemm(false, false, rows, d, n, scale(), grad.data(), n, q + width, stride(), 0,
             grad_q + begin * stride(), stride());
      }
    }
  });
}

Problem make_problem(const at::Tensor& qkv, const at::Tensor& key_mask,
                     const FusedAttentionOptions& o) {
  RowTransform transform{static_cast<float>(o.stretch.zeta - o.stretch.gamma),
                         static_cast<float>(o.stretch.gamma),
                         !o.stretch.identity(),
                         o.dropout > 0,
                         dropout_threshold(o.dropout),
                         static_cast<float>(1 / (1 - o.dropout))};
  return {qkv.size(0), qkv.size(1), qkv.size(2) / 3,
          o.heads,     o.causal,    key_mask.defined() ? key_mask.const_data_ptr<bool>() : nullptr,
          transform,   o.site};
}

}  // namespace

bool fused_cpu_takes(const at::Tensor& qkv) {
  return qkv.is_cpu() && qkv.scalar_type() == at::kFloat;
}

at::Tensor fused_cpu_forward(const at::Tensor& qkv, const at::Tensor& key_mask,
                             const FusedAttentionOptions& options) {
  at::Tensor context = at::empty({qkv.size(0), qkv.size(1), qkv.size(2) / 3}, qkv.options());
  make_problem(qkv, key_mask, options)
      .forward(qkv.const_data_ptr<float>(), context.mutable_data_ptr<float>());
  return context;
}

at::Tensor fused_cpu_backward(const at::Tensor& qkv, const at::Tensor& key_mask,
                              const FusedAttentionOptions& options,
                              const at::Tensor& grad_context) {
  at::Tensor grad_qkv = at::empty_like(qkv);
  make_problem(qkv, key_mask, options)
      .backward(qkv.const_data_ptr<float>(), grad_context.const_data_ptr<float>(),
                grad_qkv.mutable_data_ptr<float>());
  return grad_qkv;
}

}  // namespace quench
