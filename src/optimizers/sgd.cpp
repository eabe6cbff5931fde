#include "optimizers/sgd.h"

#include <ATen/ATen.h>

namespace quench {
namespace {

class SgdGroup : public ParameterGroup {
 public:
  SgdGroup(std::vector<Parameter*> parameters, double weight_decay, double momentum, bool nesterov)
      : ParameterGroup(
            std::move(parameters), weight_decay,
            momentum > 0 ? std::vector<std::string>{"momentum"} : std::vector<std::string>()),
        momentum_(momentum),
        nesterov_(nesterov) {}

  void step(const OptimizerStep& step) override {
    const Lists lists = with_gradient(Cut::kWhole);
    if (lists.values.empty()) return;
    at::_fused_sgd_(lists.values, lists.gradients,
                    lists.buffers.empty() ? std::vector<at::Tensor>() : lists.buffers[0],
                    weight_decay(), momentum_, step.learning_rate, /*dampening=*/0, nesterov_,
                    /*maximize=*/false, /*is_first_step=*/false, step.grad_scale(),
                    step.found_inf());
  }

 private:
  double momentum_;
  bool nesterov_;
};

}  // namespace

SgdConfig::SgdConfig() {
  learning_rate = 0.01;
  weight_decay = 0;
}

void SgdConfig::describe(config::Fields& fields) {
  OptimizerConfig::describe(fields);
  fields("momentum", momentum, "share of the past steps in the next one; 0: none",
         config::between(0, 0.99999999));
  fields("nesterov", nesterov, "Nesterov's momentum: look one step ahead");
  fields.require(!nesterov || momentum > 0, "nesterov", "has no meaning with momentum 0");
}

std::unique_ptr<Optimizer> SgdConfig::build(Parameters& parameters) const {
  return std::make_unique<Optimizer>(
      by_decay(parameters.pointers(), [&](std::vector<Parameter*> list, double decay) {
        return std::make_unique<SgdGroup>(std::move(list), decay, momentum, nesterov);
      }));
}

}  // namespace quench
