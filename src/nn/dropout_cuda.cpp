#include "nn/dropout_cuda.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "device/cuda_kernel.h"

namespace quench {

const char kCudaDropoutHash[] = R"(
__device__ u64 mix(u64 x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

__device__ u32 hash(u64 key, u64 element) {
  const u64 block = element >> 32;
  if (block) key = mix(key + block);
  u32 x = (u32)element ^ (u32)key;
  x = (x ^ (x >> 16)) * 0x7feb352du + (u32)(key >> 32);
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}
)";

namespace {

// X, R and OUT are kinds of numbers; a thread takes PER_THREAD neighbours.
constexpr char kSource[] = R"(
template <class T>
struct __align__(sizeof(T) * PER_THREAD) Pack {
  T values[PER_THREAD];
};

extern "C" __global__ void drop(const X::stored* x, const R::stored* residual, OUT::stored* out, u64 size,
                                u64 row_size, u64 rows_in, u64 first, u64 rows, u64 columns, const u64* index,
                                u64 key, u32 threshold, float scale) {
  const u64 begin = ((u64)blockIdx.x * blockDim.x + threadIdx.x) * PER_THREAD;
  if (begin >= size) return;
  // PER_THREAD divides row_size: neighbours are in one row.
  const bool small = !(size >> 32);  // 64-bit divisions are slow
  const u64 row = small ? (u32)begin / (u32)row_size : begin / row_size;
  const u64 group = small ? (u32)row / (u32)rows_in : row / rows_in;
  const u64 row_of_whole = index ? index[row] : group * rows + row - group * rows_in;
  const u64 element = first + row_of_whole * columns + begin - row * row_size;
  const Pack<X::stored> in = *(const Pack<X::stored>*)(x + begin);
  Pack<R::stored> add;
  if (residual) add = *(const Pack<R::stored>*)(residual + begin);
  Pack<OUT::stored> result;
#pragma unroll
  for (int i = 0; i < PER_THREAD; ++i) {
    // Rounded to x's own kind first, as a dropout and a sum behind one another would.
    const float kept = hash(key, element + i) >= threshold
                           ? X::load(X::store(__fmul_rn(X::load(in.values[i]), scale))) : 0.f;
    result.values[i] = OUT::store(residual ? __fadd_rn(R::load(add.values[i]), kept) : kept);
  }
  *(Pack<OUT::stored>*)(out + begin) = result;
}
)";

CudaKernel& kernel(at::ScalarType x, at::ScalarType residual, at::ScalarType out,
                   int64_t per_thread) {
  static CudaKernels kernels;
  const auto name = [](at::ScalarType dtype) { return *cuda_number(dtype); };
  return kernels.get("drop",
                     concat("#define X ", name(x), "\n#define R ", name(residual), "\n#define OUT ",
                            name(out), "\n#define PER_THREAD ", per_thread, "\n"),
                     {kCudaNumbers, kCudaDropoutHash, kSource});
}

}  // namespace

bool cuda_dropout_takes(const at::Tensor& x) {
  return x.is_cuda() && cuda_number(x.scalar_type()) && can_compile_kernels();
}

at::Tensor cuda_dropout(const at::Tensor& x, const at::Tensor& residual, double p,
                        const DropoutSite& site, const RowPlace& place) {
  constexpr int64_t kThreads = 256;
  const at::ScalarType base = residual.defined() ? residual.scalar_type() : x.scalar_type(),
                       dtype = at::promote_types(x.scalar_type(), base);
  at::Tensor out = at::empty(x.sizes(), x.options().dtype(dtype));
  const int64_t size = x.numel(), row_size = x.size(-1), rows_in = rows_of_group(x, place),
                first = first_element(x, site, place);
  if (size == 0) return out;
  const void* in = x.const_data_ptr();
  const void* add = residual.defined() ? residual.const_data_ptr() : nullptr;
  // Four neighbours are loaded at once: one row, and aligned.
  const auto aligned = [](const void* data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; };
  const int64_t per_thread = row_size % 4 == 0 && aligned(in) && aligned(add) ? 4 : 1;
  void* result = out.mutable_data_ptr();
  const void* index = place.index.defined() ? place.index.const_data_ptr() : nullptr;
  const uint32_t threshold = dropout_threshold(p);
  const auto scale = static_cast<float>(1 / (1 - p));
  const int64_t blocks = (size / per_thread + kThreads - 1) / kThreads;
  kernel(x.scalar_type(), base, dtype, per_thread)
      .launch(x.device(), blocks, kThreads,
              {&in, &add, &result, &size, &row_size, &rows_in, &first, &place.rows, &place.columns,
               &index, &site.key, &threshold, &scale});
  return out;
}

}  // namespace quench
