// Range estimators: from the tensors that pass through a quantizer to the range of its grid.
// To add one: a file with its class and factory, and its line in the table of estimator.cpp.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "quant/affine.h"
#include "quant/options.h"

namespace quench {

class RangeEstimator {
 public:
  virtual ~RangeEstimator() = default;

  // Takes the next batch into account. Throws Error where `x` is empty or not finite; an estimator
  // that need not wait for a device leaves the latter to `check` there.
  virtual void observe(const at::Tensor& x) = 0;

  // Throws Error where a tensor observed on a device was not finite.
  virtual void check() const {}

  // The range as of now; [] per tensor, [C] per channel. Only after `observe`.
  virtual Range range() const = 0;
};

// Throws UsageError for an unknown type, and for options that the type does not have.
std::unique_ptr<RangeEstimator> make_estimator(const QuantizerOptions& options);

std::vector<std::string> estimator_names();

// What the table lists; use make_estimator.
std::unique_ptr<RangeEstimator> make_minmax(const QuantizerOptions& options);
std::unique_ptr<RangeEstimator> make_running_minmax(const QuantizerOptions& options);
std::unique_ptr<RangeEstimator> make_mse(const QuantizerOptions& options);

// Smallest and largest value of `x`, [] or, per channel, [x.size(0)]; both NaN where one value is.
// Reads no number. Throws Error where `x` is empty.
Range min_max(const at::Tensor& x, bool per_channel);

// Throws Error where an end of the min_max of a tensor of that shape is a NaN or an infinity.
void check_finite(const Range& extremes, at::IntArrayRef shape);

}  // namespace quench
