// One quantizer: an estimator that watches the tensors passing by, and the grid made from its
// range.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/json.h"
#include "quant/affine.h"
#include "quant/estimator.h"
#include "quant/options.h"

namespace quench {

// Estimating from the start: each tensor first updates the range, then is quantized with it. From
// fix() on the range stays. Errors carry the quantizer's name.
class Quantizer {
 public:
  // Throws UsageError where an option is out of range.
  Quantizer(std::string name, const QuantizerOptions& options);

  // Simulated quantization of `x` (see fake_quantize); while estimating, after observe(x).
  at::Tensor operator()(const at::Tensor& x);

  // Updates the range. Throws Error where `x` is empty or not finite, or the range is fixed. On a
  // device, unless the estimator searches, nothing waits for numbers: that `x` was not finite is
  // said by fix() or record().
  void observe(const at::Tensor& x);

  // Throws Error where nothing has been observed, or what was on a device was not finite.
  void fix();

  // Throws Error where nothing has been observed.
  const Affine& affine() const;

  // {"name", "bits", "symmetric", "signed", "scale", "zero_point"}: the last two numbers, per
  // channel lists. Throws Error as fix() does.
  Json record() const;

 private:
  // Runs `action`, whose errors then name the quantizer.
  template <class Action>
  void named(Action action) const;

  std::string name_;
  QuantizerOptions options_;
  std::unique_ptr<RangeEstimator> estimator_;
  std::optional<Affine> affine_;
  bool fixed_ = false;
};

}  // namespace quench
