#include "attention/fused_cuda.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "attention/heads_cuda.h"
#include "base/error.h"
#include "device/cuda_kernel.h"
#include "nn/dropout.h"
#include "nn/dropout_cuda.h"

namespace quench {
namespace {

constexpr int64_t kBlockElements = int64_t{1} << 28;  // scores formed at a time
constexpr int64_t kRowStep = 64;
constexpr int64_t kKeyStep = 8;       // rows of scores begin where products and packs want them
constexpr int64_t kMaxLength = 8192;  // a row lies in the registers of its threads

// N is a kind of numbers. A row of scores belongs to WARPS warps; each thread holds ITERATIONS
// times PACK neighbours. Rows are filled up to `keys` with keys that do not exist, whose
// probability is 0. The arithmetic is that of softmax_row.h.
constexpr char kSource[] = R"(
const int PACK = 4;
const int kRowThreads = 32 * WARPS;
const int kValues = ITERATIONS * PACK;
const float kLowest = -3.4028234663852886e38f;

struct Rows {
  u64 count;  // rows of scores: batch * heads * rows_in
  int keys, rows_in, first_row, length, heads;
  const unsigned char* key_mask;  // [B, length] or null
  int causal, clip;
  float factor, gamma;  // clip(factor p + gamma, 0, 1)
  u32 threshold;        // of dropout
  float keep_scale;     // 0: no dropout
  u64 dropout_key, first_group;  // of the pass, in its step
};

// One row, as its threads see it.
struct Row {
  const Rows& r;
  int thread, query;
  u64 group;  // batch * heads + head
  const unsigned char* mask;

  __device__ Row(const Rows& rows, u64 index)
      : r(rows), thread(threadIdx.x % kRowThreads) {
    group = index / rows.rows_in;
    query = rows.first_row + (int)(index - group * rows.rows_in);
    mask = rows.key_mask ? rows.key_mask + group / rows.heads * rows.length : 0;
  }
  __device__ int key(int i, int u) const { return (i * kRowThreads + thread) * PACK + u; }
  __device__ bool exists(int key) const { return key < r.keys && key < r.length; }
  __device__ bool hidden(int key) const {
    return (r.causal && key > query) || (mask && !mask[key]);
  }
  __device__ float kept(int key) const {
    const u64 element = ((r.first_group + group) * r.length + query) * r.length + key;
    return hash(r.dropout_key, element) >= r.threshold ? r.keep_scale : 0.f;
  }
};

struct Max { static __device__ float of(float a, float b) { return fmaxf(a, b); } };
struct Sum { static __device__ float of(float a, float b) { return a + b; } };

// Over all threads of a row, the same result in each.
template <class Of>
__device__ float reduce(float x) {
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = Of::of(x, __shfl_xor_sync(0xffffffffu, x, step));
#if WARPS > 1
  __shared__ float parts[WARPS];
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  x = parts[0];
#pragma unroll
  for (int w = 1; w < WARPS; ++w) x = Of::of(x, parts[w]);
#endif
  return x;
}

struct __align__(sizeof(N::stored) * PACK) Pack { N::stored values[PACK]; };

__device__ void load(const N::stored* from, const Row& row, float* x) {
#pragma unroll
  for (int i = 0; i < ITERATIONS; ++i) {
    const int first = row.key(i, 0);
    const bool needed = row.exists(first) && (row.mask || !row.hidden(first));
    Pack pack;
    if (needed) pack = *(const Pack*)(from + first);
#pragma unroll
    for (int u = 0; u < PACK; ++u) x[i * PACK + u] = needed ? N::load(pack.values[u]) : 0.f;
  }
}

__device__ void store(N::stored* to, const Row& row, const float* x) {
#pragma unroll
  for (int i = 0; i < ITERATIONS; ++i) {
    const int first = row.key(i, 0);
    if (first >= row.r.keys) continue;
    Pack pack;
#pragma unroll
    for (int u = 0; u < PACK; ++u) pack.values[u] = N::store(x[i * PACK + u]);
    *(Pack*)(to + first) = pack;
  }
}

// p = softmax of the masked scores.
__device__ void softmax(const N::stored* scores, const Row& row, float* p) {
  load(scores, row, p);
  float top = kLowest;
#pragma unroll
  for (int v = 0; v < kValues; ++v) {
    const int key = row.key(v / PACK, v % PACK);
    if (!row.exists(key) || row.hidden(key)) p[v] = kLowest;
    top = fmaxf(top, p[v]);
  }
  top = reduce<Max>(top);
  float sum = 0;
#pragma unroll
  for (int v = 0; v < kValues; ++v) {
    p[v] = row.exists(row.key(v / PACK, v % PACK)) ? expf(p[v] - top) : 0.f;
    sum += p[v];
  }
  const float inverse = 1 / reduce<Sum>(sum);
#pragma unroll
  for (int v = 0; v < kValues; ++v) p[v] *= inverse;
}

// Scores -> probabilities, in place.
extern "C" __global__ void forward(N::stored* scores, Rows rows) {
  const u64 index = (u64)blockIdx.x * ROWS + threadIdx.x / kRowThreads;
  if (index >= rows.count) return;
  const Row row(rows, index);
  N::stored* own = scores + index * rows.keys;
  float p[kValues];
  softmax(own, row, p);
#pragma unroll
  for (int v = 0; v < kValues; ++v) {
    if (rows.clip) p[v] = fminf(fmaxf(rows.factor * p[v] + rows.gamma, 0.f), 1.f);
    if (rows.keep_scale > 0) p[v] *= row.kept(row.key(v / PACK, v % PACK));
  }
  store(own, row, p);
}

// Scores -> probabilities, and their gradients -> those of the scores, both in place.
extern "C" __global__ void backward(N::stored* scores, N::stored* grads, Rows rows) {
  const u64 index = (u64)blockIdx.x * ROWS + threadIdx.x / kRowThreads;
  if (index >= rows.count) return;
  const Row row(rows, index);
  N::stored *own = scores + index * rows.keys, *own_grads = grads + index * rows.keys;
  float p[kValues], grad[kValues], out[kValues];
  softmax(own, row, p);
  load(own_grads, row, grad);
  float dot = 0;
  bool sees = false;
#pragma unroll
  for (int v = 0; v < kValues; ++v) {
    const int key = row.key(v / PACK, v % PACK);
    out[v] = p[v];
    if (rows.clip) {
      const float y = rows.factor * p[v] + rows.gamma;
      out[v] = fminf(fmaxf(y, 0.f), 1.f);
      grad[v] = y >= 0.f && y <= 1.f ? grad[v] * rows.factor : 0.f;
    }
    if (rows.keep_scale > 0) {
      const float kept = row.kept(key);
      out[v] *= kept;
      grad[v] *= kept;
    }
    dot += p[v] * grad[v];
    sees = sees || (row.exists(key) && !row.hidden(key));
  }
  store(own, row, out);
  dot = reduce<Sum>(dot);
  // The reference halves the gradient at a tie (fused_cpu.cpp, halve_ties).
  const bool ties = rows.causal && rows.key_mask && reduce<Max>(sees ? 1.f : 0.f) == 0.f;
#pragma unroll
  for (int v = 0; v < kValues; ++v) {
    const int key = row.key(v / PACK, v % PACK);
    grad[v] = p[v] * (grad[v] - dot);
    if (ties && row.exists(key)) grad[v] *= key > row.query && !row.mask[key] ? 0.f : 0.5f;
  }
  store(own_grads, row, grad);
}
)";

// The struct of the same name in the kernels' source.
struct Rows {
  uint64_t count;
  int32_t keys, rows_in, first_row, length, heads;
  const void* key_mask;
  int32_t causal, clip;
  float factor, gamma;
  uint32_t threshold;
  float keep_scale;
  uint64_t dropout_key, first_group;
};

// How the threads of a block share its rows.
struct Geometry {
  int64_t warps, rows, iterations;
};

Geometry geometry(int64_t keys) {
  const int64_t warps = keys <= 256 ? 1 : keys <= 1024 ? 4 : 8, step = 32 * warps * 4;
  return {warps, warps == 1 ? 4 : 1, (keys + step - 1) / step};
}

void launch(const char* name, const at::Tensor& scores, const Rows& rows,
            std::initializer_list<const void*> arguments) {
  static CudaKernels kernels;
  const Geometry g = geometry(rows.keys);
  kernels
      .get(name,
           concat("#define N ", *cuda_number(scores.scalar_type()), "\n#define WARPS ", g.warps,
                  "\n#define ROWS ", g.rows, "\n#define ITERATIONS ", g.iterations, "\n"),
           {kCudaNumbers, kCudaDropoutHash, kSource})
      .launch(scores.device(), (static_cast<int64_t>(rows.count) + g.rows - 1) / g.rows,
              32 * g.warps * g.rows, arguments);
}

// The queries [begin, end) of a call, and the keys that any of them may see: the first `keys`.
struct Block {
  int64_t begin, end, keys;
};

// One attention call over the parts [3, B H, length, d] of fused_cuda_heads().
class Call {
 public:
  Call(const at::Tensor& parts, int64_t tokens, const at::Tensor& key_mask,
       const FusedAttentionOptions& options)
      : options_(options),
        key_mask_(key_mask),
        batch_(parts.size(1) / options.heads),
        tokens_(tokens),
        q_(parts[0].narrow(1, 0, tokens)),
        k_(parts[1]),
        v_(parts[2]),
        scale_(1 / std::sqrt(static_cast<double>(parts.size(3)))) {}

  at::Tensor forward() const {
    const at::Tensor context = at::empty({1, q_.size(0), tokens_, q_.size(2)}, q_.options());
    for (const Block& b : blocks()) {
      at::Tensor probs = scores(b), out = context[0].narrow(1, b.begin, b.end - b.begin);
      const Rows rows = this->rows(b);
      void* data = probs.mutable_data_ptr();
      launch("forward", probs, rows, {&data, &rows});
      at::bmm_out(out, probs, v_.narrow(1, 0, b.keys));
    }
    return merge_heads(context, batch_, tokens_);
  }

  at::Tensor backward(const at::Tensor& grad_context) const {
    const at::Tensor grad = split_heads(grad_context, 1, options_.heads, tokens_)[0];
    const std::vector<Block> all = blocks();
    // Keys and values get a term from every block: in float32, if they are several.
    const auto dtype = all.size() > 1 ? at::kFloat : q_.scalar_type();
    const auto options = q_.options().dtype(dtype);
    const std::vector<int64_t> shape{3, k_.size(0), k_.size(1), k_.size(2)};
    const at::Tensor grads = all.size() > 1 ? at::zeros(shape, options) : at::empty(shape, options);
    // sum (+)= scale a b
    const auto add = [&](at::Tensor sum, const at::Tensor& a, const at::Tensor& b, double scale) {
      if (all.size() > 1) {
        sum.add_(at::bmm(a, b), scale);
      } else {
        sum.baddbmm_(a, b, /*beta=*/0, scale);
      }
    };
    for (const Block& b : all) {
      const int64_t rows_in = b.end - b.begin;
      const auto queries = [&](const at::Tensor& x) { return x.narrow(1, b.begin, rows_in); };
      const auto keys = [&](const at::Tensor& x) { return x.narrow(1, 0, b.keys); };
      at::Tensor probs = scores(b);
      at::Tensor grad_scores = at::bmm(queries(grad), keys(v_).transpose(1, 2));
      const Rows rows = this->rows(b);
      void *data = probs.mutable_data_ptr(), *grad_data = grad_scores.mutable_data_ptr();
      launch("backward", probs, rows, {&data, &grad_data, &rows});
      add(queries(grads[0]), grad_scores, keys(k_), scale_);
      add(keys(grads[1]), grad_scores.transpose(1, 2), queries(q_), scale_);
      add(keys(grads[2]), probs.transpose(1, 2), queries(grad), 1);
    }
    return merge_heads(grads.to(q_.scalar_type()), batch_, tokens_);
  }

 private:
  std::vector<Block> blocks() const {
    std::vector<Block> blocks;
    const int64_t length = k_.size(1);
    const int64_t step =
        std::max<int64_t>(kBlockElements / (q_.size(0) * length) / kRowStep, 1) * kRowStep;
    const bool short_rows = options_.causal && !key_mask_.defined();
    for (int64_t begin = 0; begin < tokens_; begin += step) {
      const int64_t end = std::min(begin + step, tokens_);
      blocks.push_back({begin, end, short_rows && end < tokens_ ? end : length});
    }
    return blocks;
  }

  // Scaled, before the mask: [B H, R, keys].
  at::Tensor scores(const Block& b) const {
    const at::Tensor q = q_.narrow(1, b.begin, b.end - b.begin),
                     k = k_.narrow(1, 0, b.keys).transpose(1, 2);
    return at::empty({q.size(0), q.size(1), b.keys}, q.options()).baddbmm_(q, k, 0, scale_);
  }

  Rows rows(const Block& b) const {
    const FusedAttentionOptions& o = options_;
    const Stretch stretch = *o.row->stretch();
    const auto narrow = [](int64_t x) { return static_cast<int32_t>(x); };
    return {static_cast<uint64_t>(q_.size(0) * (b.end - b.begin)),
            narrow(b.keys),
            narrow(b.end - b.begin),
            narrow(b.begin),
            narrow(tokens_),
            narrow(o.heads),
            key_mask_.defined() ? key_mask_.const_data_ptr() : nullptr,
            o.causal,
            !stretch.identity(),
            static_cast<float>(stretch.zeta - stretch.gamma),
            static_cast<float>(stretch.gamma),
            dropout_threshold(o.dropout),
            o.dropout > 0 ? static_cast<float>(1 / (1 - o.dropout)) : 0.f,
            o.site.key,
            static_cast<uint64_t>(o.site.first_sample * o.heads)};
  }

  FusedAttentionOptions options_;
  at::Tensor key_mask_;
  int64_t batch_, tokens_;
  at::Tensor q_, k_, v_;  // [B H, T, d], and twice [B H, length, d]
  double scale_;
};

}  // namespace

bool fused_cuda_takes(const at::Tensor& qkv) {
  return qkv.is_cuda() && cuda_number(qkv.scalar_type()) && qkv.size(1) <= kMaxLength &&
         can_compile_kernels();
}

at::Tensor fused_cuda_heads(const at::Tensor& qkv, int64_t heads) {
  return split_heads(qkv, 3, heads, (qkv.size(1) + kKeyStep - 1) / kKeyStep * kKeyStep);
}

at::Tensor fused_cuda_forward(const at::Tensor& parts, int64_t tokens, const at::Tensor& key_mask,
                              const FusedAttentionOptions& options) {
  return Call(parts, tokens, key_mask, options).forward();
}

at::Tensor fused_cuda_backward(const at::Tensor& parts, const at::Tensor& key_mask,
                               const FusedAttentionOptions& options,
                               const at::Tensor& grad_context) {
  return Call(parts, grad_context.size(1), key_mask, options).backward(grad_context);
}

}  // namespace quench
