#include "quant/affine.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/simd.h"
#include "quant/affine_kernel.h"

namespace quench {
namespace {

constexpr double kSmallestScale = 1e-8;
constexpr int64_t kGrainSize = 32768;  // elements a task

QUENCH_SIMD void quantize_span(const float* x, float* y, int64_t size, ScalarAffine affine) {
  for (int64_t i = 0; i < size; ++i) y[i] = fake_quantize_scalar(x[i], affine);
}

at::Tensor quantize_per_tensor(const at::Tensor& x, const Affine& affine) {
  at::Tensor y = at::empty_like(x);  // the same strides, so both are walked in memory order
  const float* in = x.const_data_ptr<float>();
  float* out = y.mutable_data_ptr<float>();
  const ScalarAffine scalar = scalar_affine(affine);
  at::parallel_for(0, x.numel(), kGrainSize, [&](int64_t begin, int64_t end) {
    quantize_span(in + begin, out + begin, end - begin, scalar);
  });
  return y;
}

at::Tensor quantize_per_channel(const at::Tensor& x, const Affine& affine) {
  at::Tensor y = at::empty_like(x);
  const float* in = x.const_data_ptr<float>();
  float* out = y.mutable_data_ptr<float>();
  const at::Tensor scale = affine.scale.to(at::kCPU, at::kFloat).contiguous();
  const at::Tensor zero_point = affine.zero_point.to(at::kCPU, at::kFloat).contiguous();
  const float* scales = scale.const_data_ptr<float>();
  const float* zero_points = zero_point.const_data_ptr<float>();
  const float int_min = affine.int_min.item<float>();
  const float int_max = affine.int_max.item<float>();
  const int64_t channel_size = x.numel() / std::max<int64_t>(x.size(0), 1);
  const int64_t grain = kGrainSize / std::max<int64_t>(channel_size, 1) + 1;
  at::parallel_for(0, x.size(0), grain, [&](int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) {
      quantize_span(in + c * channel_size, out + c * channel_size, channel_size,
                    {scales[c], zero_points[c], int_min, int_max});
    }
  });
  return y;
}

void check_channels(const at::Tensor& x, const Affine& affine) {
  if (affine.scale.dim() == 0) return;
  check(x.dim() > 0 && x.size(0) == affine.scale.size(0), "fake_quantize: ", affine.scale.size(0),
        " per-channel scales need a tensor with that many rows, got shape ", x.sizes());
}

}  // namespace

Affine affine_from_range(const Range& range, int64_t bits, bool symmetric) {
  const at::Tensor min = range.min.clamp_max(0);
  const at::Tensor max = range.max.clamp_min(kSmallestScale);
  const double size = std::exp2(bits);
  Affine affine;
  affine.int_min = at::zeros({}, min.options());
  if (symmetric) affine.int_min = affine.int_min.add((min < 0).any(), -size / 2);
  affine.int_max = affine.int_min + (size - 1);
  // Divided by a tensor: on a GPU a number's reciprocal would be multiplied.
  const at::Tensor delta = (symmetric ? at::maximum(-min, max) : max - min) / affine.int_max;
  affine.scale = delta.clamp_min(kSmallestScale);
  affine.zero_point = symmetric ? at::zeros_like(affine.scale)
                                : at::round(-min / delta).clamp(affine.int_min, affine.int_max);
  return affine;
}

at::Tensor fake_quantize_composed(const at::Tensor& x, const Affine& affine) {
  check_channels(x, affine);
  const auto dtype = at::promote_types(x.scalar_type(), at::kFloat);
  std::vector<int64_t> shape(affine.scale.dim() == 0 ? 0 : x.dim(), 1);
  if (!shape.empty()) shape[0] = -1;
  const auto there = [&](const at::Tensor& values) { return values.to(x.device(), dtype); };
  const at::Tensor scale = there(affine.scale).reshape(shape);
  const at::Tensor zero_point = there(affine.zero_point).reshape(shape);
  const at::Tensor q = (at::round(x.detach().to(dtype) / scale) + zero_point)
                           .clamp(there(affine.int_min), there(affine.int_max));
  return (scale * (q - zero_point)).to(x.scalar_type());
}

at::Tensor fake_quantize(const at::Tensor& x, const Affine& affine) {
  const bool single_pass = x.device().is_cpu() && x.scalar_type() == at::kFloat;
  if (single_pass && affine.scale.dim() == 0 && x.is_non_overlapping_and_dense()) {
    return quantize_per_tensor(x.detach(), affine);
  }
  if (single_pass && affine.scale.dim() == 1 && x.is_contiguous()) {
    check_channels(x, affine);
    return quantize_per_channel(x.detach(), affine);
  }
  return fake_quantize_composed(x, affine);
}

}  // namespace quench
