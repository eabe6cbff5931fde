#include "optimizers/adamw.h"

#include <ATen/ATen.h>

namespace quench {
namespace {

class AdamWGroup : public ParameterGroup {
 public:
  AdamWGroup(std::vector<Parameter*> parameters, double weight_decay, const AdamWOptions& options)
      : ParameterGroup(std::move(parameters), weight_decay, {"exp_avg", "exp_avg_sq"}),
        options_(options) {}

  void step(const OptimizerStep& step) override {
    const Lists lists = with_gradient(Cut::kWhole);
    if (lists.values.empty()) return;
    const std::vector<at::Tensor> steps(lists.values.size(), step.steps_taken);
    at::_fused_adamw_(lists.values, lists.gradients, lists.buffers[0], lists.buffers[1], {}, steps,
                      step.learning_rate, options_.betas[0], options_.betas[1], weight_decay(),
                      options_.eps, /*amsgrad=*/false, /*maximize=*/false, step.grad_scale(),
                      step.found_inf());
  }

 private:
  AdamWOptions options_;
};

}  // namespace

void describe_options(config::Fields& f, AdamWOptions& c) {
  f("betas", c.betas, "AdamW's decay of both moments", config::between(0, 0.99999999));
  f("eps", c.eps, "AdamW's epsilon", config::greater_than(0));
  f.require(c.betas.size() == 2, "betas", "expected two numbers");
}

void AdamWConfig::describe(config::Fields& fields) {
  OptimizerConfig::describe(fields);
  describe_options(fields, options);
}

std::unique_ptr<Optimizer> AdamWConfig::build(Parameters& parameters) const {
  return std::make_unique<Optimizer>(
      by_decay(parameters.pointers(), [&](std::vector<Parameter*> list, double decay) {
        return make_adamw_group(std::move(list), decay, options);
      }));
}

std::unique_ptr<ParameterGroup> make_adamw_group(std::vector<Parameter*> parameters,
                                                 double weight_decay, const AdamWOptions& options) {
  return std::make_unique<AdamWGroup>(std::move(parameters), weight_decay, options);
}

}  // namespace quench
