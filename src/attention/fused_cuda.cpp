#include "attention/fused_cuda.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "device/cuda_kernel.h"
#include "nn/dropout.h"
#include "nn/dropout_cuda.h"

namespace quench {
namespace {

constexpr int64_t kBlockElements = int64_t{1} << 26;  // scores formed at a time
constexpr int64_t kRowStep = 64;
constexpr int64_t kMaxLength = 8192;  // a row lies in the registers of its threads

// N is a kind of numbers. A row of scores belongs to WARPS warps; each thread holds ITERATIONS
// times PACK neighbours. The arithmetic is that of RowTransform in fused_cpu.cpp.
constexpr char kSource[] = R"(
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
  u64 dropout_key;
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
  __device__ bool hidden(int key) const {
    return (r.causal && key > query) || (mask && !mask[key]);
  }
  __device__ float kept(int key) const {
    const u64 element = (group * r.length + query) * r.length + key;
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

__device__ void load(const N::stored* from, const Row& row, float* x, float otherwise) {
#pragma unroll
  for (int i = 0; i < ITERATIONS; ++i) {
    const int first = row.key(i, 0);
    Pack pack;
    if (first < row.r.keys) pack = *(const Pack*)(from + first);
#pragma unroll
    for (int u = 0; u < PACK; ++u)
      x[i * PACK + u] = first < row.r.keys ? N::load(pack.values[u]) : otherwise;
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
  load(scores, row, p, kLowest);
  float top = kLowest;
#pragma unroll
  for (int v = 0; v < kValues; ++v) {
    const int key = row.key(v / PACK, v % PACK);
    if (key < row.r.keys && row.hidden(key)) p[v] = kLowest;
    top = fmaxf(top, p[v]);
  }
  top = reduce<Max>(top);
  float sum = 0;
#pragma unroll
  for (int v = 0; v < kValues; ++v) {
    p[v] = row.key(v / PACK, v % PACK) < row.r.keys ? expf(p[v] - top) : 0.f;
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
  load(own_grads, row, grad, 0.f);
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
    sees = sees || (key < rows.keys && !row.hidden(key));
  }
  store(own, row, out);
  dot = reduce<Sum>(dot);
  // The reference halves the gradient at a tie (fused_cpu.cpp, halve_ties).
  const bool ties = rows.causal && rows.key_mask && reduce<Max>(sees ? 1.f : 0.f) == 0.f;
#pragma unroll
  for (int v = 0; v < kValues; ++v) {
    const int key = row.key(v / PACK, v % PACK);
    grad[v] = p[v] * (grad[v] - dot);
    if (ties && key < rows.keys) grad[v] *= key > row.query && !row.mask[key] ? 0.f : 0.5f;
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
  uint64_t dropout_key;
};

// How the threads of a block share its rows.
struct Geometry {
  int64_t warps, rows, pack, iterations;
};

Geometry geometry(int64_t keys) {
  const int64_t warps = keys <= 256 ? 1 : keys <= 1024 ? 4 : 8, pack = keys % 4 == 0 ? 4 : 1;
  const int64_t step = 32 * warps * pack;
  return {warps, warps == 1 ? 4 : 1, pack, (keys + step - 1) / step};
}

void launch(const char* name, const at::Tensor& scores, const Rows& rows,
            std::initializer_list<const void*> arguments) {
  static CudaKernels kernels;
  const Geometry g = geometry(rows.keys);
  kernels
      .get(name,
           concat("#define N ", *cuda_number(scores.scalar_type()), "\n#define WARPS ", g.warps,
                  "\n#define ROWS ", g.rows, "\n#define PACK ", g.pack, "\n#define ITERATIONS ",
                  g.iterations, "\n"),
           {kCudaNumbers, kCudaDropoutHash, kSource})
      .launch(scores.device(), (static_cast<int64_t>(rows.count) + g.rows - 1) / g.rows,
              32 * g.warps * g.rows, arguments);
}

// The queries [begin, end) of a call, and the keys that any of them may see: the first `keys`.
struct Block {
  int64_t begin, end, keys;
};

// One attention call; heads are [B H, T, d] each.
class Call {
 public:
  Call(const at::Tensor& qkv, const at::Tensor& key_mask, const FusedAttentionOptions& options)
      : options_(options), key_mask_(key_mask), batch_(qkv.size(0)), length_(qkv.size(1)) {
    const at::Tensor parts = by_head(qkv).contiguous().flatten(1, 2);
    q_ = parts[0], k_ = parts[1], v_ = parts[2];
    scale_ = 1 / std::sqrt(static_cast<double>(q_.size(-1)));
  }

  at::Tensor forward() const {
    at::Tensor context = at::empty_like(q_);
    for (const Block& b : blocks()) {
      at::Tensor probs = scores(b), out = context.narrow(1, b.begin, b.end - b.begin);
      const Rows rows = this->rows(b);
      void* data = probs.mutable_data_ptr();
      launch("forward", probs, rows, {&data, &rows});
      at::bmm_out(out, probs, v_.narrow(1, 0, b.keys));
    }
    return context.unflatten(0, {batch_, -1}).transpose(1, 2).flatten(-2);
  }

  at::Tensor backward(const at::Tensor& grad_context) const {
    const int64_t heads = options_.heads;
    const at::Tensor grad =
        grad_context.unflatten(-1, {heads, -1}).transpose(1, 2).contiguous().flatten(0, 1);
    const std::vector<Block> all = blocks();
    // Keys and values get a term from every block: in float32, if they are several.
    const auto dtype = all.size() > 1 ? at::kFloat : q_.scalar_type();
    const at::Tensor grads =
        at::zeros({3, q_.size(0), length_, q_.size(-1)}, q_.options().dtype(dtype));
    for (const Block& b : all) {
      const int64_t rows_in = b.end - b.begin;
      const auto queries = [&](const at::Tensor& x) { return x.narrow(1, b.begin, rows_in); };
      const auto keys = [&](const at::Tensor& x) { return x.narrow(1, 0, b.keys); };
      at::Tensor probs = scores(b);
      at::Tensor grad_scores = at::bmm(queries(grad), keys(v_).transpose(1, 2));
      const Rows rows = this->rows(b);
      void *data = probs.mutable_data_ptr(), *grad_data = grad_scores.mutable_data_ptr();
      launch("backward", probs, rows, {&data, &grad_data, &rows});
      queries(grads[0]).add_(at::bmm(grad_scores, keys(k_)), scale_);
      keys(grads[1]).add_(at::bmm(grad_scores.transpose(1, 2), queries(q_)), scale_);
      keys(grads[2]).add_(at::bmm(probs.transpose(1, 2), queries(grad)));
    }
    return grads.unflatten(1, {batch_, heads})
        .permute({1, 3, 0, 2, 4})
        .flatten(2)
        .to(q_.scalar_type());
  }

 private:
  // [B, T, 3 D] -> [3, B, H, T, d]
  at::Tensor by_head(const at::Tensor& qkv) const {
    return qkv.unflatten(-1, {3, options_.heads, -1}).permute({2, 0, 3, 1, 4});
  }

  std::vector<Block> blocks() const {
    std::vector<Block> blocks;
    // Whole packs of neighbours in every row.
    const int64_t step =
        std::max<int64_t>(kBlockElements / (q_.size(0) * length_) / kRowStep, 1) * kRowStep;
    for (int64_t begin = 0; begin < length_; begin += step) {
      const int64_t end = std::min(begin + step, length_);
      blocks.push_back({begin, end, options_.causal && !key_mask_.defined() ? end : length_});
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
    const auto narrow = [](int64_t x) { return static_cast<int32_t>(x); };
    return {static_cast<uint64_t>(q_.size(0) * (b.end - b.begin)),
            narrow(b.keys),
            narrow(b.end - b.begin),
            narrow(b.begin),
            narrow(length_),
            narrow(o.heads),
            key_mask_.defined() ? key_mask_.const_data_ptr() : nullptr,
            o.causal,
            !o.stretch.identity(),
            static_cast<float>(o.stretch.zeta - o.stretch.gamma),
            static_cast<float>(o.stretch.gamma),
            dropout_threshold(o.dropout),
            o.dropout > 0 ? static_cast<float>(1 / (1 - o.dropout)) : 0.f,
            o.dropout_key};
  }

  FusedAttentionOptions options_;
  at::Tensor key_mask_, q_, k_, v_;
  int64_t batch_, length_;
  double scale_ = 1;
};

}  // namespace

bool fused_cuda_takes(const at::Tensor& qkv) {
  return qkv.is_cuda() && cuda_number(qkv.scalar_type()) && qkv.size(1) <= kMaxLength &&
         can_compile_kernels();
}

at::Tensor fused_cuda_forward(const at::Tensor& qkv, const at::Tensor& key_mask,
                              const FusedAttentionOptions& options) {
  return Call(qkv, key_mask, options).forward();
}

at::Tensor fused_cuda_backward(const at::Tensor& qkv, const at::Tensor& key_mask,
                               const FusedAttentionOptions& options,
                               const at::Tensor& grad_context) {
  return Call(qkv, key_mask, options).backward(grad_context);
}

}  // namespace quench
