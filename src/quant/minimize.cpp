#include "quant/minimize.h"

#include <algorithm>
#include <cmath>

namespace quench {
namespace {

constexpr double kTolerance = 1e-5;
constexpr int kMaxEvaluations = 500;

double sign(double value) { return value < 0 ? -1 : 1; }

class BoundedSearch {
 public:
  BoundedSearch(const std::function<float(double)>& function, double lower, double upper)
      : function_(function), lower_(lower), upper_(upper) {
    const double start = lower + golden_ * (upper - lower);
    best_ = second_ = third_ = {start, function(start)};
  }

  Minimum run() {
    for (int evaluations = 1; evaluations < kMaxEvaluations && !converged(); ++evaluations) {
      if (!try_parabola()) golden_step();
      const double x = best_.x + sign(step_) * std::max(std::abs(step_), tolerance());
      accept({x, function_(x)});
    }
    return best_;
  }

 private:
  double middle() const { return 0.5 * (lower_ + upper_); }
  double tolerance() const { return relative_ * std::abs(best_.x) + kTolerance / 3; }
  bool converged() const {
    return !(std::abs(best_.x - middle()) > 2 * tolerance() - 0.5 * (upper_ - lower_));
  }

  void golden_step() {
    step_before_ = best_.x >= middle() ? lower_ - best_.x : upper_ - best_.x;
    step_ = golden_ * step_before_;
  }

  // Steps to the vertex of the parabola through the three best points, unless it lies outside the
  // bounds or the step is no shorter than half of the one before the last.
  bool try_parabola() {
    if (!(std::abs(step_before_) > tolerance())) return false;
    double r = (best_.x - second_.x) * (best_.value - third_.value);
    double q = (best_.x - third_.x) * (best_.value - second_.value);
    double p = (best_.x - third_.x) * q - (best_.x - second_.x) * r;
    q = 2 * (q - r);
    if (q > 0) p = -p;
    q = std::abs(q);
    r = step_before_;
    step_before_ = step_;
    if (!(std::abs(p) < std::abs(0.5 * q * r) && p > q * (lower_ - best_.x) &&
          p < q * (upper_ - best_.x))) {
      return false;
    }
    step_ = p / q;
    const double x = best_.x + step_;
    if (x - lower_ < 2 * tolerance() || upper_ - x < 2 * tolerance()) {
      step_ = tolerance() * sign(middle() - best_.x);
    }
    return true;
  }

  void accept(Minimum point) {
    if (point.value <= best_.value) {
      (point.x >= best_.x ? lower_ : upper_) = best_.x;
      third_ = second_;
      second_ = best_;
      best_ = point;
      return;
    }
    (point.x < best_.x ? lower_ : upper_) = point.x;
    if (point.value <= second_.value || second_.x == best_.x) {
      third_ = second_;
      second_ = point;
    } else if (point.value <= third_.value || third_.x == best_.x || third_.x == second_.x) {
      third_ = point;
    }
  }

  const double golden_ = 0.5 * (3 - std::sqrt(5.0));
  const double relative_ = std::sqrt(2.2e-16);
  const std::function<float(double)>& function_;
  double lower_, upper_;
  double step_ = 0, step_before_ = 0;
  Minimum best_, second_, third_;
};

}  // namespace

Minimum minimize_bounded(const std::function<float(double)>& function, double lower, double upper) {
  return BoundedSearch(function, lower, upper).run();
}

}  // namespace quench
