// The closed form of a normalizer, which the fused kernel for CPUs (fused_cpu.h) runs over one row
// of scores at a time while it lies in the cache.
#pragma once

#include <cfloat>
#include <cstdint>
#include <optional>

#include "nn/parameters.h"

namespace quench {

// p -> clip((zeta - gamma) p + gamma, 0, 1); the identity on probabilities for gamma = 0, zeta = 1.
struct Stretch {
  double gamma = 0;
  double zeta = 1;
  bool identity() const { return gamma == 0 && zeta == 1; }
};

// The score of a key that may not be seen.
inline constexpr float kHiddenScore = -FLT_MAX;

struct ScoreRow {
  int64_t head = 0;
  int64_t seen = 0;  // keys that the query may see
};

class RowFunction {
 public:
  virtual ~RowFunction() = default;

  // x [n]: scores -> probabilities, in place.
  virtual void forward(float* x, int64_t n, const ScoreRow& row) const = 0;

  // x [n]: scores -> probabilities, grad [n]: d loss / d probabilities -> d loss / d scores, both
  // in place. Adds to `parameter_grad` the gradient of the head's parameter.
  virtual void backward(float* x, float* grad, int64_t n, const ScoreRow& row,
                        double& parameter_grad) const = 0;

  // One number a head, [H]; null: none.
  virtual const Parameter* parameter() const { return nullptr; }

  // Set where it is a softmax that is stretched and clipped, which kernels for GPUs compute too.
  virtual std::optional<Stretch> stretch() const { return {}; }
};

}  // namespace quench
