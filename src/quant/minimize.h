// Minimum of a function of one variable within bounds: Brent's method (Brent 1973, "Algorithms for
// Minimization Without Derivatives", chapter 5) without derivatives: golden-section steps, and
// steps to the vertex of a parabola where that can be trusted.
#pragma once

#include <functional>

namespace quench {

struct Minimum {
  double x;
  float value;
};

// Evaluates `function` at the same points as scipy.optimize.minimize_scalar(method="bounded") with
// its defaults (xatol 1e-5, at most 500 evaluations), given a function that returns float32: losses
// are noisy in their last bits, and the end point depends on each comparison.
Minimum minimize_bounded(const std::function<float(double)>& function, double lower, double upper);

}  // namespace quench
