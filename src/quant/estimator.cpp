#include "quant/estimator.h"

#include <ATen/ATen.h>

#include <utility>

#include "base/error.h"
#include "base/text.h"

namespace quench {
namespace {

using Factory = std::unique_ptr<RangeEstimator> (*)(const QuantizerOptions&);

const std::pair<const char*, Factory> kEstimators[] = {
    {"minmax", make_minmax},
    {"running_minmax", make_running_minmax},
    {"mse", make_mse},
};

}  // namespace

std::unique_ptr<RangeEstimator> make_estimator(const QuantizerOptions& options) {
  for (const auto& [name, factory] : kEstimators) {
    if (options.estimator.type == name) return factory(options);
  }
  fail_usage("unknown range estimator \"", options.estimator.type, "\", expected one of ",
             listed(estimator_names()));
}

std::vector<std::string> estimator_names() {
  std::vector<std::string> names;
  for (const auto& estimator : kEstimators) names.emplace_back(estimator.first);
  return names;
}

Range min_max(const at::Tensor& x, bool per_channel) {
  check(x.numel() > 0, "cannot estimate a range from the empty tensor of shape ", x.sizes());
  check(!per_channel || x.dim() > 0, "a range per channel needs a tensor with dimensions");
  const at::Tensor data = x.detach().to(at::promote_types(x.scalar_type(), at::kFloat));
  const auto [min, max] =
      per_channel ? data.reshape({data.size(0), -1}).aminmax(1) : data.aminmax();
  return {min, max};
}

void check_finite(const Range& extremes, at::IntArrayRef shape) {
  const auto& [min, max] = extremes;
  check(min.isfinite().logical_and(max.isfinite()).all().item<bool>(),
        "cannot estimate a range from a tensor of shape ", shape,
        " with values that are not finite (min ", min.min().item<double>(), ", max ",
        max.max().item<double>(), "); perhaps training has diverged");
}

}  // namespace quench
