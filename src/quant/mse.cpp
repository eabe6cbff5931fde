// The range whose grid has the least squared error on the data, by one of two searches.
//
//   grid            tries a list of intervals and adds up their losses over all tensors seen:
//                   [-t, t] ([0, t] where the data has no negative value) for a symmetric grid; the
//                   same with shifted centres for an asymmetric one.
//   golden_section  minimizes over a radius (and, for an asymmetric grid, over a shift within each
//                   radius); the result is the optimum of the last tensor alone.
//
// Both follow the reference: which of them `auto` takes (grid for symmetric grids, golden section
// for asymmetric ones), intervals up to an absolute 0.5 beyond the data, one-sidedness and radius
// decided by the first tensor, float32 losses summed over rows first and then over row sums.
//
// A search decides by numbers, which it waits for on a device: once a tensor, or at every step of a
// golden section.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "base/error.h"
#include "base/simd.h"
#include "quant/affine_kernel.h"
#include "quant/estimator.h"
#include "quant/minimize.h"

namespace quench {
namespace {

constexpr double kMargin = 0.5;          // how far beyond the data intervals may reach
constexpr int kRadii = 100;              // that the grid search tries
constexpr int64_t kBlockSize = 1 << 15;  // elements whose errors stay in cache until summed
constexpr int64_t kMaxGridBits = 10;     // 51,200 intervals; each further bit doubles them

struct Interval {
  double min, max;
};

// Both ends [intervals.size()], float32.
Range as_range(const std::vector<Interval>& intervals, at::Device device) {
  at::Tensor min = at::empty({static_cast<int64_t>(intervals.size())}, at::kFloat);
  at::Tensor max = at::empty_like(min);
  for (size_t i = 0; i < intervals.size(); ++i) {
    min.mutable_data_ptr<float>()[i] = static_cast<float>(intervals[i].min);
    max.mutable_data_ptr<float>()[i] = static_cast<float>(intervals[i].max);
  }
  return {min.to(device), max.to(device)};
}

at::Tensor as_rows(const at::Tensor& x) {
  return x.dim() == 0 ? x.reshape({1, 1}) : x.reshape({x.size(0), -1});
}

QUENCH_SIMD void squared_errors(const float* x, float* errors, int64_t size, ScalarAffine affine) {
  for (int64_t i = 0; i < size; ++i) {
    const float error = x[i] - fake_quantize_scalar(x[i], affine);
    errors[i] = error * error;
  }
}

// Sum of squared errors of each row: [R, N] -> [R]. One pass: a block of rows at a time is
// quantized into scratch memory and summed there by ATen, in its own order of additions.
at::Tensor row_errors(const at::Tensor& rows, const Affine& affine) {
  if (!rows.device().is_cpu()) return (rows - fake_quantize(rows, affine)).square().sum(1);
  const int64_t size = rows.size(1);
  const int64_t block_rows = std::max<int64_t>(1, kBlockSize / size);
  const ScalarAffine scalar = scalar_affine(affine);
  const float* data = rows.const_data_ptr<float>();
  at::Tensor sums = at::empty({rows.size(0)}, rows.options());
  at::parallel_for(0, rows.size(0), block_rows, [&](int64_t begin, int64_t end) {
    at::Tensor scratch = at::empty({std::min(block_rows, end - begin), size}, rows.options());
    float* errors = scratch.mutable_data_ptr<float>();
    for (int64_t first = begin; first < end; first += block_rows) {
      const int64_t count = std::min(block_rows, end - first);
      squared_errors(data + first * size, errors, count * size, scalar);
      at::Tensor block_sums = sums.narrow(0, first, count);
      at::sum_out(block_sums, scratch.narrow(0, 0, count), 1);
    }
  });
  return sums;
}

class MseEstimator : public RangeEstimator {
 public:
  explicit MseEstimator(const QuantizerOptions& options)
      : options_(options),
        grid_search_(options.estimator.search == "grid" ||
                     (options.estimator.search == "auto" && options.symmetric)),
        max_skew_((int64_t{1} << options.bits) / 4) {}

  void observe(const at::Tensor& x) override {
    const Range seen = min_max(x, false);
    check_finite(seen, x.sizes());
    if (!radius_) start(seen.min.item<double>(), seen.max.item<double>());
    const at::Tensor data = x.detach().to(at::kFloat).contiguous();
    const std::vector<Interval> best = grid_search_ ? search_grid(data) : search_golden(data);

    range_ = as_range(best, x.device());
    if (!options_.per_channel()) range_ = {range_.min[0], range_.max[0]};
  }

  Range range() const override { return range_; }

 private:
  void start(double min, double max) {
    one_sided_ = min >= 0;
    if (one_dimensional()) {
      radius_ = std::max(std::abs(min), max) + kMargin;
    } else {
      radius_ = std::max(std::abs(max + kMargin), std::abs(min - kMargin));
    }
    if (!grid_search_) return;
    const double step = *radius_ / kRadii;
    for (int i = 1; i <= kRadii; ++i) add_candidates(step * i, {min - kMargin, max + kMargin});
  }

  // One interval of that radius, or that and its shifts by whole quantization steps.
  void add_candidates(double radius, Interval limits) {
    if (one_dimensional()) {
      candidates_.push_back(interval(radius));
      return;
    }
    const double step = 2 * radius / levels();
    for (int64_t shift = 0; shift < max_skew_; ++shift) {
      for (const double skew :
           {static_cast<double>(shift) * step, -static_cast<double>(shift) * step}) {
        candidates_.push_back(
            {std::max(-radius + skew, limits.min), std::min(radius + skew, limits.max)});
        if (shift == 0) break;
      }
    }
  }

  std::vector<Interval> search_grid(const at::Tensor& data) {
    const at::Tensor rows = as_rows(data);
    const int64_t channels = options_.per_channel() ? rows.size(0) : 1;
    const int64_t count = static_cast<int64_t>(candidates_.size());
    if (!losses_.defined())
      losses_ = at::zeros({count, channels}, data.options().dtype(at::kDouble));
    // One range a candidate; those of a symmetric grid are all signed or none is.
    const Affine all =
        affine_from_range(as_range(candidates_, data.device()), options_.bits, options_.symmetric);
    for (int64_t i = 0; i < count; ++i) {
      const at::Tensor errors =
          row_errors(rows, {all.scale[i], all.zero_point[i], all.int_min, all.int_max});
      losses_[i] += options_.per_channel() ? errors : errors.sum();
    }
    const at::Tensor best = losses_.argmin(0).cpu();  // the first where several are least
    std::vector<Interval> result;
    for (int64_t c = 0; c < channels; ++c) {
      result.push_back(candidates_[static_cast<size_t>(best[c].item<int64_t>())]);
    }
    return result;
  }

  std::vector<Interval> search_golden(const at::Tensor& data) const {
    if (!options_.per_channel()) return {golden_optimum(as_rows(data))};
    std::vector<Interval> result;
    for (int64_t c = 0; c < data.size(0); ++c) result.push_back(golden_optimum(as_rows(data[c])));
    return result;
  }

  Interval golden_optimum(const at::Tensor& rows) const {
    const auto minimize_radius = [this](const auto& loss) {
      return minimize_bounded(loss, 0.01 * *radius_, *radius_).x;
    };
    if (one_dimensional()) {
      return interval(minimize_radius([&](double radius) { return loss(rows, interval(radius)); }));
    }
    const auto best_shift = [&](double radius) {
      const double max_shift = 2 * radius / levels() * static_cast<double>(max_skew_);
      return minimize_bounded(
          [&](double shift) {
            return loss(rows, {-radius + shift, radius + shift});
          },
          -max_shift, max_shift);
    };
    const double radius = minimize_radius([&](double r) { return best_shift(r).value; });
    const double shift = best_shift(radius).x;
    return {-radius + shift, radius + shift};
  }

  float loss(const at::Tensor& rows, Interval interval) const {
    return row_errors(rows, affine(interval)).sum().item<float>();
  }

  Affine affine(Interval interval) const {
    return affine_from_range(
        {at::scalar_tensor(interval.min, at::kFloat), at::scalar_tensor(interval.max, at::kFloat)},
        options_.bits, options_.symmetric);
  }

  bool one_dimensional() const { return one_sided_ || options_.symmetric; }
  Interval interval(double radius) const { return {one_sided_ ? 0 : -radius, radius}; }
  double levels() const { return std::exp2(options_.bits) - 1; }

  const QuantizerOptions options_;
  const bool grid_search_;
  const int64_t max_skew_;  // largest shift of an asymmetric interval, in quantization steps
  // Set by the first tensor:
  bool one_sided_ = false;
  std::optional<double> radius_;
  std::vector<Interval> candidates_;
  at::Tensor losses_;  // [candidates, channels], float64
  Range range_;
};

}  // namespace

std::unique_ptr<RangeEstimator> make_mse(const QuantizerOptions& options) {
  const EstimatorOptions& estimator = options.estimator;
  if (estimator.percentile) fail_usage("range estimator mse takes no percentile");
  if (estimator.search != "auto" && estimator.search != "grid" &&
      estimator.search != "golden_section") {
    fail_usage("search must be auto, grid or golden_section, got \"", estimator.search, "\"");
  }
  if (estimator.search == "grid" && !options.symmetric && options.bits > kMaxGridBits) {
    fail_usage("grid search for an asymmetric grid of ", options.bits,
               " bits has too many intervals; use search golden_section");
  }
  return std::make_unique<MseEstimator>(options);
}

}  // namespace quench
