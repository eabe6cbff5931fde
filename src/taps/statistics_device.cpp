#include "taps/statistics_device.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <vector>

#include "base/error.h"
#include "device/cuda_kernel.h"
#include "taps/statistics.h"

namespace quench {
namespace {

constexpr int64_t kChunkElements = int64_t{1} << 24;  // in float64 at a time

// A block of threads a row: power sums of x - pivot in float64, as Moments in statistics.cpp.
constexpr char kMoments[] = R"(
const int kWarps = 8;

template <class Of>
__device__ double over_block(double x) {
  __shared__ double parts[kWarps];
#pragma unroll
  for (int step = 16; step > 0; step /= 2) x = Of::of(x, __shfl_xor_sync(0xffffffffu, x, step));
  __syncthreads();
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  x = parts[0];
#pragma unroll
  for (int w = 1; w < kWarps; ++w) x = Of::of(x, parts[w]);
  return x;
}
struct Max { static __device__ double of(double a, double b) { return fmax(a, b); } };
struct Sum { static __device__ double of(double a, double b) { return a + b; } };

// out: mean, central2, kurtosis and max_abs of all rows, each [rows].
extern "C" __global__ void moments(const N::stored* x, double* out, u64 rows, u64 size, double epsilon) {
  const N::stored* row = x + (u64)blockIdx.x * size;
  const u64 first = size < 256 ? size : 256;
  double pivot = over_block<Sum>(threadIdx.x < first ? (double)N::load(row[threadIdx.x]) : 0.0) / (double)first;
  if (!isfinite(pivot)) pivot = 0;
  double sum1 = 0, sum2 = 0, sum3 = 0, sum4 = 0, not_a_number = 0;
  float max_abs = 0;
  for (u64 i = threadIdx.x; i < size; i += blockDim.x) {
    const float value = N::load(row[i]);
    const double d = value - pivot, square = d * d;
    sum1 += d;
    sum2 += square;
    sum3 += square * d;
    sum4 += square * square;
    max_abs = fmaxf(max_abs, fabsf(value));
    if (value != value) not_a_number = 1;
  }
  sum1 = over_block<Sum>(sum1);
  sum2 = over_block<Sum>(sum2);
  sum3 = over_block<Sum>(sum3);
  sum4 = over_block<Sum>(sum4);
  const double largest = over_block<Max>(max_abs);
  not_a_number = over_block<Max>(not_a_number);
  if (threadIdx.x) return;
  const double n = (double)size, a = sum1 / n, central2 = sum2 - sum1 * sum1 / n, variance = central2 / (n - 1);
  const double m4 = sum4 / n - 4 * a * sum3 / n + 6 * a * a * sum2 / n - 3 * a * a * a * a;
  out[blockIdx.x] = pivot + a;
  out[rows + blockIdx.x] = central2;
  out[2 * rows + blockIdx.x] = m4 / (variance * variance + epsilon);
  out[3 * rows + blockIdx.x] = not_a_number > 0 ? nan("") : largest;
}
)";

// A thread a dimension and some vectors. Integers, and floats that are not negative, whose bits are
// ordered as they are: the order of the threads changes nothing.
constexpr char kDimensions[] = R"(
extern "C" __global__ void dimensions(const N::stored* x, const double* mean, const double* limit, int* max_abs,
                                      u64* outliers, u64 vectors, u64 size, u64 step) {
  const u64 d = (u64)blockIdx.x * blockDim.x + threadIdx.x;
  if (d >= size) return;
  const double m = *mean, most = *limit;
  float largest = 0;
  u64 count = 0;
  for (u64 v = blockIdx.y * step; v < vectors && v < (blockIdx.y + 1) * step; ++v) {
    const float value = N::load(x[v * size + d]);
    largest = fmaxf(largest, fabsf(value));
    if (fabs(value - m) > most) ++count;
  }
  atomicMax(max_abs + d, __float_as_int(largest));
  if (count) atomicAdd(outliers + d, count);
}
)";

CudaKernel& kernel(const char* name, const char* source, at::ScalarType dtype) {
  static CudaKernels kernels;
  return kernels.get(name, concat("#define N ", *cuda_number(dtype), "\n"), {kCudaNumbers, source});
}

bool has_kernel(const at::Tensor& x) {
  return x.is_cuda() && cuda_number(x.scalar_type()) && can_compile_kernels();
}

RowMoments from_rows(const at::Tensor& out) { return {out[0], out[1], out[2], out[3]}; }

}  // namespace

RowMoments row_moments(const at::Tensor& rows) {
  if (!has_kernel(rows)) return row_moments_composed(rows);
  const at::Tensor out = at::empty({4, rows.size(0)}, rows.options().dtype(at::kDouble));
  const void* x = rows.const_data_ptr();
  void* result = out.mutable_data_ptr();
  const int64_t count = rows.size(0), size = rows.size(1);
  const double epsilon = kKurtosisEpsilon;
  kernel("moments", kMoments, rows.scalar_type())
      .launch(rows.device(), count, 256, {&x, &result, &count, &size, &epsilon});
  return from_rows(out);
}

void add_dimensions(const at::Tensor& x, const at::Tensor& mean, const at::Tensor& limit,
                    at::Tensor& max_abs, at::Tensor& outliers) {
  if (!has_kernel(x)) return add_dimensions_composed(x, mean, limit, max_abs, outliers);
  constexpr int64_t kThreads = 128, kParts = 128;
  const void *data = x.const_data_ptr(), *m = mean.const_data_ptr(), *most = limit.const_data_ptr();
  void *largest = max_abs.mutable_data_ptr(), *counts = outliers.mutable_data_ptr();
  const int64_t vectors = x.size(0), size = x.size(1), parts = std::min(kParts, vectors),
                step = (vectors + parts - 1) / parts;
  kernel("dimensions", kDimensions, x.scalar_type())
      .launch(x.device(), (size + kThreads - 1) / kThreads, kThreads,
              {&data, &m, &most, &largest, &counts, &vectors, &size, &step}, parts);
}

RowMoments row_moments_composed(const at::Tensor& rows) {
  const int64_t step = std::max<int64_t>(1, kChunkElements / rows.size(1));
  const double n = static_cast<double>(rows.size(1));
  std::vector<at::Tensor> chunks;
  for (int64_t begin = 0; begin < rows.size(0); begin += step) {
    const at::Tensor x =
        rows.narrow(0, begin, std::min(step, rows.size(0) - begin)).to(at::kDouble);
    const at::Tensor mean = x.mean(1), square = (x - mean.unsqueeze(1)).square(),
                     central2 = square.sum(1), variance = central2 / (n - 1);
    const at::Tensor kurtosis = square.square().mean(1) / (variance.square() + kKurtosisEpsilon);
    chunks.push_back(at::stack({mean, central2, kurtosis, x.abs().amax(1)}));
  }
  return from_rows(at::cat(chunks, 1));
}

void add_dimensions_composed(const at::Tensor& x, const at::Tensor& mean, const at::Tensor& limit,
                             at::Tensor& max_abs, at::Tensor& outliers) {
  const int64_t step = std::max<int64_t>(1, kChunkElements / x.size(1));
  for (int64_t begin = 0; begin < x.size(0); begin += step) {
    const at::Tensor part = x.narrow(0, begin, std::min(step, x.size(0) - begin)).to(at::kDouble);
    const at::Tensor largest = at::where(part.isnan(), at::zeros({}, part.options()), part.abs());
    max_abs.copy_(at::maximum(max_abs, largest.amax(0).to(at::kFloat)));
    outliers.add_(((part - mean).abs() > limit).sum(0));
  }
}

}  // namespace quench
