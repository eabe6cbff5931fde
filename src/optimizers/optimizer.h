// Optimizers: gradients -> the next weights. An optimizer is groups of parameters, each with its
// rule, its weight decay and its buffers; what all have in common stands here. A new one is a file
// like those beside this one and one line in `optimizers()`; config, schema and --help follow from
// its describe(). Norms and updates never wait for the device.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "config/fields.h"
#include "nn/parameters.h"

namespace quench {

// One step, as every group sees it. All are 0-dim.
struct OptimizerStep {
  at::Tensor learning_rate;  // on the CPU (float64) or beside the weights (float32)
  at::Tensor factor;         // of the gradients; undefined: 1
  at::Tensor skip;           // 1: leave everything as it is; undefined: 0
  at::Tensor steps_taken;    // this one included, skipped ones not: float32, beside the weights

  // The same as LibTorch's fused kernels want it.
  std::optional<at::Tensor> grad_scale() const;
  std::optional<at::Tensor> found_inf() const;
};

// Some of a model's parameters, which one rule updates.
class ParameterGroup {
 public:
  // `buffers` are the names of what the rule remembers of each parameter: float32, of its shape, 0
  // before the first step.
  ParameterGroup(std::vector<Parameter*> parameters, double weight_decay,
                 std::vector<std::string> buffers);
  virtual ~ParameterGroup() = default;

  // Updates weights and buffers. Parameters without a gradient stay as they are. May overwrite the
  // gradients.
  virtual void step(const OptimizerStep& step) = 0;

  const std::vector<Parameter*>& parameters() const { return parameters_; }
  double weight_decay() const { return weight_decay_; }
  // The buffers under "<buffer>.<parameter name>".
  std::vector<std::pair<std::string, at::Tensor>> state() const;

 protected:
  // Lists of the same length: buffers[b][i] belongs to values[i].
  struct Lists {
    std::vector<at::Tensor> values, gradients;
    std::vector<std::vector<at::Tensor>> buffers;
  };
  // Of the parameters that have a gradient: these, or their parts, in the parts' own shapes.
  enum class Cut { kWhole, kParts };
  Lists with_gradient(Cut cut) const;

 private:
  std::vector<Parameter*> parameters_;
  double weight_decay_;
  std::vector<std::string> names_;                // of the buffers
  std::vector<std::vector<at::Tensor>> buffers_;  // [buffer][parameter]
};

class Optimizer {
 public:
  // The groups share no parameter and have at least one.
  explicit Optimizer(std::vector<std::unique_ptr<ParameterGroup>> groups);

  // Global L2 norm of all gradients divided by `loss_scale`, 0-dim float32.
  at::Tensor gradient_norm(const at::Tensor& loss_scale) const;

  // Multiplies the gradients by `factor` (0-dim) and updates the weights; `skip` (0-dim, 1 = leave
  // everything as it is) may be undefined, and so may `factor`. `learning_rate` is 0-dim, on the
  // CPU (float64) or beside the weights (float32).
  void step(const at::Tensor& learning_rate, const at::Tensor& factor, const at::Tensor& skip);

  // Steps taken, skipped ones not counted: float32, 0-dim, beside the weights.
  const at::Tensor& steps_taken() const { return step_; }

  void zero_gradients();

  // Names of the parameters of each group, for inspection: {decay, names}.
  std::vector<std::pair<double, std::vector<std::string>>> groups() const;

  // The number of steps under "step", and the groups' buffers: the optimizer's own tensors, to save
  // and to copy into.
  std::vector<std::pair<std::string, at::Tensor>> state() const;

 private:
  std::vector<std::unique_ptr<ParameterGroup>> groups_;
  at::Tensor step_;  // steps_taken()
};

// The `optimizer` section of a config.
class OptimizerConfig {
 public:
  double learning_rate = 1e-4;
  double weight_decay = 0.01;
  bool decay_norm_weights = false;  // gains of normalizations too

  virtual ~OptimizerConfig() = default;
  virtual std::string type() const = 0;
  virtual void describe(config::Fields& fields);
  // For `parameters`, which outlive it and stay where they are.
  virtual std::unique_ptr<Optimizer> build(Parameters& parameters) const = 0;

 protected:
  // Two groups: of what decays, and of what does not.
  std::vector<std::unique_ptr<ParameterGroup>> by_decay(
      const std::vector<Parameter*>& parameters,
      const std::function<std::unique_ptr<ParameterGroup>(std::vector<Parameter*>, double decay)>&
          make) const;
};

const config::Registry<OptimizerConfig>& optimizers();

}  // namespace quench
