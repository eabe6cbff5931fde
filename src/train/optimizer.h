// AdamW with decoupled weight decay (Loshchilov, Hutter 2019) through LibTorch's fused kernel, in
// two groups: what decays, and what does not (SPEC 4.1). Norms and updates never wait for the
// device.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>
#include <vector>

#include "models/model.h"
#include "run/config.h"

namespace quench {

class AdamW {
 public:
  AdamW(Model& model, const OptimizerConfig& config);

  // Global L2 norm of all gradients divided by `loss_scale`, 0-dim float32.
  at::Tensor gradient_norm(const at::Tensor& loss_scale) const;

  // Multiplies the gradients by `factor` (0-dim) and updates the weights; `skip` (0-dim, 1 = leave
  // everything as it is) may be undefined. `learning_rate` is 0-dim, on the CPU (float64) or beside
  // the weights (float32).
  void step(const at::Tensor& learning_rate, const at::Tensor& factor, const at::Tensor& skip);

  // Steps taken, skipped ones not counted: float32, 0-dim, beside the weights.
  const at::Tensor& steps_taken() const { return step_; }

  void zero_gradients();

  // Names of the parameters of each group, for inspection: {decay, names}.
  std::vector<std::pair<double, std::vector<std::string>>> groups() const;

  // Moments under "exp_avg.<name>" and "exp_avg_sq.<name>", and the number of steps under "step":
  // the optimizer's own tensors, to save and to copy into.
  std::vector<std::pair<std::string, at::Tensor>> state() const;

 private:
  struct Group {
    double weight_decay = 0;
    std::vector<Parameter*> parameters;
    std::vector<at::Tensor> exp_avg, exp_avg_sq;
  };

  OptimizerConfig config_;
  std::vector<Group> groups_;
  at::Tensor step_;  // steps_taken()
};

}  // namespace quench
