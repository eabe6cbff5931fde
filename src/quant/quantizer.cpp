#include "quant/quantizer.h"

#include <ATen/ATen.h>

#include <utility>
#include <vector>

#include "base/error.h"

namespace quench {
namespace {

constexpr int64_t kMinBits = 2;
constexpr int64_t kMaxBits = 16;

std::unique_ptr<RangeEstimator> checked_estimator(const std::string& name,
                                                  const QuantizerOptions& options) {
  const auto refuse = [&](const auto&... what) { fail_usage("quantizer ", name, ": ", what...); };
  if (options.bits < kMinBits || options.bits > kMaxBits) {
    refuse("bits must be within ", kMinBits, "..", kMaxBits, ", got ", options.bits);
  }
  if (!options.per_channel() && options.granularity != "per_tensor") {
    refuse("granularity must be per_tensor or per_channel, got \"", options.granularity, "\"");
  }
  try {
    return make_estimator(options);
  } catch (const UsageError& error) {
    refuse(error.what());
  }
  return nullptr;
}

Json numbers(const at::Tensor& values) {
  // Adding 0 turns the zero point -0 of data without negative values into 0.
  const at::Tensor wide = values.to(at::kCPU, at::kDouble).contiguous() + 0.0;
  if (wide.dim() == 0) return wide.item<double>();
  const double* data = wide.const_data_ptr<double>();
  return std::vector<double>(data, data + wide.numel());
}

}  // namespace

Quantizer::Quantizer(std::string name, const QuantizerOptions& options)
    : name_(std::move(name)), options_(options), estimator_(checked_estimator(name_, options)) {}

template <class Action>
void Quantizer::named(Action action) const {
  try {
    action();
  } catch (const Error& error) {
    fail("quantizer ", name_, ": ", error.what());
  }
}

at::Tensor Quantizer::operator()(const at::Tensor& x) {
  if (!fixed_) observe(x);
  return fake_quantize(x, affine());
}

void Quantizer::observe(const at::Tensor& x) {
  check(!fixed_, "quantizer ", name_, ": its range is fixed, it cannot observe more data");
  named([&] { estimator_->observe(x); });
  affine_ = affine_from_range(estimator_->range(), options_.bits, options_.symmetric);
}

void Quantizer::fix() {
  affine();
  named([&] { estimator_->check(); });
  fixed_ = true;
}

const Affine& Quantizer::affine() const {
  check(affine_.has_value(), "quantizer ", name_,
        " has seen no data, so it has no range; was its tensor part of the calibration?");
  return *affine_;
}

Json Quantizer::record() const {
  if (!fixed_) named([&] { estimator_->check(); });
  return {{"name", name_},
          {"bits", options_.bits},
          {"symmetric", options_.symmetric},
          {"signed", affine().is_signed()},
          {"scale", numbers(affine().scale)},
          {"zero_point", numbers(affine().zero_point)}};
}

}  // namespace quench
