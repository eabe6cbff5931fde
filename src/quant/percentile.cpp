#include "quant/percentile.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "base/error.h"

namespace quench {
namespace {

// The `count` least or largest values of a vector, from the outermost inwards.
using Outermost = at::Tensor (*)(const at::Tensor& x, int64_t count, bool largest);

at::Tensor outermost_on_cpu(const at::Tensor& x, int64_t count, bool largest) {
  const float* data = x.const_data_ptr<float>();
  at::Tensor values = at::empty({count}, x.options());
  float* out = values.mutable_data_ptr<float>();
  const auto sort = [&](auto before) {
    std::partial_sort_copy(data, data + x.numel(), out, out + count, before);
  };
  largest ? sort(std::greater<float>()) : sort(std::less<float>());
  return values;
}

at::Tensor outermost_composed(const at::Tensor& x, int64_t count, bool largest) {
  return std::get<0>(x.topk(count, 0, largest));
}

at::Tensor percentile(const at::Tensor& x, double percent, Outermost outermost) {
  check(percent >= 0 && percent <= 100, "percentile: ", percent, " is not within 0..100");
  const int64_t size = x.numel();
  const double position = static_cast<double>(size - 1) * (percent / 100);
  const int64_t index = static_cast<int64_t>(std::floor(position));
  if (index == size - 1) return x.max().to(at::kDouble);

  // The neighbours of `position`, sorted from the end that is nearer.
  const bool largest = percent >= 50;
  const at::Tensor values = outermost(x, largest ? size - index : index + 2, largest);
  const at::Tensor lower = values[largest ? -1 : -2], upper = values[largest ? -2 : -1];
  const double fraction = position - static_cast<double>(index);
  const at::Tensor difference = (upper - lower).to(at::kDouble);  // of float32, as numpy does
  // From the nearer end, as numpy does: both forms differ in the last bit.
  return fraction < 0.5 ? lower.to(at::kDouble) + difference * fraction
                        : upper.to(at::kDouble) - difference * (1 - fraction);
}

at::Tensor percentiles_with(Outermost outermost, const at::Tensor& x,
                            at::ArrayRef<double> percents) {
  check(x.numel() > 0, "percentile: the tensor of shape ", x.sizes(), " holds no value");
  const at::Tensor flat = x.detach().to(at::kFloat).reshape({-1}).contiguous();
  std::vector<at::Tensor> results;
  for (const double percent : percents) results.push_back(percentile(flat, percent, outermost));
  return at::stack(results);
}

}  // namespace

at::Tensor percentiles(const at::Tensor& x, at::ArrayRef<double> percents) {
  return percentiles_with(x.is_cpu() ? outermost_on_cpu : outermost_composed, x, percents);
}

at::Tensor percentiles_composed(const at::Tensor& x, at::ArrayRef<double> percents) {
  return percentiles_with(outermost_composed, x, percents);
}

}  // namespace quench
