// The range of the data itself: of the last tensor seen (minmax), or an exponential moving average
// over the tensors seen (running_minmax). With a percentile p the (100 - p)-th and p-th percentiles
// take the place of minimum and maximum; they are float64, as is the scale made from them.
#include <ATen/ATen.h>

#include <utility>
#include <vector>

#include "base/error.h"
#include "quant/estimator.h"
#include "quant/percentile.h"

namespace quench {
namespace {

class MinMaxEstimator : public RangeEstimator {
 public:
  // `momentum` is the weight of the past.
  MinMaxEstimator(const QuantizerOptions& options, double momentum)
      : per_channel_(options.per_channel()),
        percentile_(options.estimator.percentile),
        momentum_(momentum) {
    if (!percentile_) return;
    if (per_channel_) fail_usage("a percentile is for per-tensor ranges only");
    if (!(*percentile_ > 50 && *percentile_ <= 100)) {
      fail_usage("percentile must be above 50 and at most 100, got ", *percentile_);
    }
  }

  void observe(const at::Tensor& x) override {
    const Range extremes = min_max(x, per_channel_);
    if (x.is_cpu()) {
      check_finite(extremes, x.sizes());
    } else {
      unchecked_.emplace_back(extremes, x.sizes().vec());
    }
    const Range batch = percentile_ ? percentile_range(x) : extremes;
    const bool blend = momentum_ > 0 && range_.min.defined();
    range_ = blend ? Range{average(batch.min, range_.min), average(batch.max, range_.max)} : batch;
  }

  void check() const override {
    for (const auto& [extremes, shape] : unchecked_) check_finite(extremes, shape);
  }

  Range range() const override { return range_; }

 private:
  Range percentile_range(const at::Tensor& x) const {
    const at::Tensor ends = percentiles(x, {100 - *percentile_, *percentile_});
    return {ends[0], ends[1]};
  }

  at::Tensor average(const at::Tensor& now, const at::Tensor& past) const {
    return now * (1 - momentum_) + past * momentum_;
  }

  bool per_channel_;
  std::optional<double> percentile_;
  double momentum_;
  Range range_;
  // Of what was observed on a device, whose numbers nothing waits for until `check`.
  std::vector<std::pair<Range, std::vector<int64_t>>> unchecked_;
};

}  // namespace

std::unique_ptr<RangeEstimator> make_minmax(const QuantizerOptions& options) {
  return std::make_unique<MinMaxEstimator>(options, 0);
}

std::unique_ptr<RangeEstimator> make_running_minmax(const QuantizerOptions& options) {
  const double momentum = options.estimator.momentum;
  if (!(momentum >= 0 && momentum < 1)) {
    fail_usage("momentum must be at least 0 and below 1, got ", momentum);
  }
  return std::make_unique<MinMaxEstimator>(options, momentum);
}

}  // namespace quench
