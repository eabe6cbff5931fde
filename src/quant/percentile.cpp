#include "quant/percentile.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "base/error.h"

namespace quench {

namespace {

// The `count` first values of `x` in the order of `before`.
template <class Order>
std::vector<float> first_values(const at::Tensor& x, int64_t count, Order before) {
  const float* data = x.const_data_ptr<float>();
  std::vector<float> values(static_cast<size_t>(count));
  std::partial_sort_copy(data, data + x.numel(), values.begin(), values.end(), before);
  return values;
}

}  // namespace

double percentile(const at::Tensor& x, double percent) {
  check(x.numel() > 0, "percentile: the tensor of shape ", x.sizes(), " holds no value");
  check(percent >= 0 && percent <= 100, "percentile: ", percent, " is not within 0..100");
  const at::Tensor flat = x.detach().to(at::kCPU, at::kFloat).reshape({-1}).contiguous();
  const int64_t size = flat.numel();
  const double position = static_cast<double>(size - 1) * (percent / 100);
  const int64_t index = static_cast<int64_t>(std::floor(position));

  // The neighbours of `position`, sorted from the end that is nearer.
  float lower, upper;
  if (index == size - 1) return flat.max().item<float>();
  if (percent < 50) {
    const std::vector<float> values = first_values(flat, index + 2, std::less<float>());
    lower = values.end()[-2], upper = values.back();
  } else {
    const std::vector<float> values = first_values(flat, size - index, std::greater<float>());
    lower = values.back(), upper = values.end()[-2];
  }
  const double fraction = position - static_cast<double>(index);
  const double difference = upper - lower;  // subtracted in float32, as numpy does
  // From the nearer end, as numpy does: both forms differ in the last bit.
  return fraction < 0.5 ? lower + difference * fraction : upper - difference * (1 - fraction);
}

}  // namespace quench
