#include "attention/fused_cpu.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
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

// Dropout of a row of probabilities. Passed by value: behind a reference, every store of a float
// might change it.
struct RowDropout {
  bool active;
  uint32_t threshold;
  float keep_scale;

  float kept(uint64_t key, uint32_t element) const {
    return dropout_hash(key, element) >= threshold ? keep_scale : 0.f;
  }
};

QUENCH_SIMD void drop_row(float* x, int64_t n, const RowDropout d, uint64_t key, uint32_t first) {
  for (int64_t i = 0; i < n; ++i) x[i] *= d.kept(key, first + static_cast<uint32_t>(i));
}

// One attention call on raw memory; rows of query, key, value and their gradients are `3 D` apart.
struct Problem {
  int64_t batch, length, width, heads;
  bool causal;
  const bool* key_mask;  // [B, T] or null
  const RowFunction* function;
  RowDropout dropout;
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

  // Drops of the n probabilities of that row, or of what else lies in their place.
  void drop(float* x, int64_t n, int64_t head_index, int64_t row) const {
    if (!dropout.active) return;
    const int64_t head_of_step = site.first_sample * heads + head_index;
    const uint64_t element =
        static_cast<uint64_t>(head_of_step * length + row) * static_cast<uint64_t>(length);
    const uint64_t block = element >> 32;
    const auto part =
        static_cast<int64_t>(std::min(static_cast<uint64_t>(n), ((block + 1) << 32) - element));
    drop_row(x, part, dropout, dropout_block_key(site.key, block), static_cast<uint32_t>(element));
    if (part < n) drop_row(x + part, n - part, dropout, dropout_block_key(site.key, block + 1), 0);
  }

  // Hides the scores [n] of keys that the mask takes from that query; returns how many are left.
  int64_t hide(float* row, int64_t n, int64_t b, int64_t query) const {
    const int64_t past = causal ? std::min(query + 1, n) : n;
    std::fill(row + past, row + n, kHiddenScore);
    const bool* allowed = key_mask + b * length;
    int64_t count = 0;
    for (int64_t j = 0; j < past; ++j) {
      row[j] = allowed[j] ? row[j] : kHiddenScore;
      count += allowed[j];
    }
    return count;
  }

  // The reference bounds causal scores from below by a maximum, whose gradient is halved at a tie:
  // what reaches a row without any visible key goes half through where one mask applies, and not at
  // all where both do.
  void halve_ties(int64_t b, int64_t row, int64_t n, float* grad) const {
    if (!causal || !key_mask) return;
    const bool* keys = key_mask + b * length;
    for (int64_t j = 0; j < n; ++j) grad[j] *= j > row && !keys[j] ? 0.f : 0.5f;
  }

  // p [rows, n] = scores of query rows [begin, begin + rows), those that may not be seen hidden;
  // calls `row`(r, row of p, keys to look at, what the row function is told) for each.
  template <class EachRow>
  void scores(const float* qkv, int64_t b, int64_t begin, int64_t rows, int64_t n, float* p,
              int64_t head, const EachRow& each) const {
    gemm(false, true, rows, n, head_size(), scale(), qkv + begin * stride(), stride(), qkv + width,
         stride(), 0, p, n);
    for (int64_t r = 0; r < rows; ++r) {
      float* row = p + r * n;
      const int64_t m = seen(begin + r, n);
      const int64_t allowed = key_mask ? hide(row, n, b, begin + r) : m;
      each(r, row, m, ScoreRow{head, allowed});
      std::fill(row + m, row + n, 0.f);
    }
  }

  void forward(const float* qkv, float* context) const;
  // Also writes the gradient of the head's parameter for each batch and head: [B, H].
  void backward(const float* qkv, const float* grad_context, float* grad_qkv,
                double* parameter_grads) const;
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
        scores(q, b, begin, rows, n, p.data(), h,
               [&](int64_t r, float* row, int64_t m, const ScoreRow& told) {
                 function->forward(row, m, told);
                 drop(row, m, item, begin + r);
               });
        gemm(false, false, rows, d, n, 1, p.data(), n, q + 2 * width, stride(), 0,
             context + (b * length + begin) * width + h * d, width);
      }
    }
  });
}

void Problem::backward(const float* qkv, const float* grad_context, float* grad_qkv,
                       double* parameter_grads) const {
  const int64_t d = head_size();
  at::parallel_for(0, batch * heads, 1, [&](int64_t first_item, int64_t last_item) {
    const size_t size = static_cast<size_t>(block() * length);
    std::vector<float> p(size), grad(size);
    for (int64_t item = first_item; item < last_item; ++item) {
      const int64_t b = item / heads, h = item % heads;
      const float* q = qkv + b * length * stride() + h * d;
      float* grad_q = grad_qkv + b * length * stride() + h * d;
      double parameter_grad = 0;
      for (int64_t begin = 0; begin < length; begin += block()) {
        const int64_t rows = std::min(block(), length - begin), n = keys(begin + rows);
        const float* grad_rows = grad_context + (b * length + begin) * width + h * d;
        gemm(false, true, rows, n, d, 1, grad_rows, width, q + 2 * width, stride(), 0, grad.data(),
             n);
        scores(q, b, begin, rows, n, p.data(), h,
               [&](int64_t r, float* row, int64_t m, const ScoreRow& told) {
                 float* grad_row = grad.data() + r * n;
                 drop(grad_row, m, item, begin + r);
                 function->backward(row, grad_row, m, told, parameter_grad);
                 drop(row, m, item, begin + r);
                 std::fill(grad_row + m, grad_row + n, 0.f);
                 if (told.seen == 0) halve_ties(b, begin + r, n, grad_row);
               });
        // The first block writes, later ones add; a causal first block leaves the later keys' rows
        // to be zeroed.
        const bool add = begin > 0;
        if (!add)
          for (int64_t j = n; j < length; ++j)
            for (int64_t part = 1; part < 3; ++part)
              std::fill_n(grad_q + j * stride() + part * width, d, 0.f);
        gemm(true, false, n, d, rows, 1, p.data(), n, grad_rows, width, add, grad_q + 2 * width,
             stride());
        gemm(true, false, n, d, rows, scale(), grad.data(), n, q + begin * stride(), stride(), add,
             grad_q + width, stride());
        gemm(false, false, rows, d, n, scale(), grad.data(), n, q + width, stride(), 0,
             grad_q + begin * stride(), stride());
      }
      parameter_grads[item] = parameter_grad;
    }
  });
}

Problem make_problem(const at::Tensor& qkv, const at::Tensor& key_mask,
                     const FusedAttentionOptions& o) {
  const RowDropout dropout{o.dropout > 0, dropout_threshold(o.dropout),
                           static_cast<float>(1 / (1 - o.dropout))};
  return {qkv.size(0), qkv.size(1), qkv.size(2) / 3,
          o.heads,     o.causal,    key_mask.defined() ? key_mask.const_data_ptr<bool>() : nullptr,
          o.row.get(), dropout,     o.site};
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

FusedGradients fused_cpu_backward(const at::Tensor& qkv, const at::Tensor& key_mask,
                                  const FusedAttentionOptions& options,
                                  const at::Tensor& grad_context) {
  FusedGradients grads{at::empty_like(qkv), {}};
  const at::Tensor of_heads = at::empty({qkv.size(0), options.heads}, at::kDouble);
  make_problem(qkv, key_mask, options)
      .backward(qkv.const_data_ptr<float>(), grad_context.const_data_ptr<float>(),
                grads.qkv.mutable_data_ptr<float>(), of_heads.mutable_data_ptr<double>());
  if (options.row->parameter()) grads.parameter = of_heads.sum(0).to(at::kFloat);
  return grads;
}

}  // namespace quench
