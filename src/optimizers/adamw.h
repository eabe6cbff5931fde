// AdamW with decoupled weight decay (Loshchilov, Hutter 2019) through LibTorch's fused kernel, in
// two groups: what decays, and what does not (SPEC 4.1). Buffers: "exp_avg", "exp_avg_sq".
#pragma once

#include "optimizers/optimizer.h"

namespace quench {

struct AdamWOptions {
  std::vector<double> betas = {0.9, 0.999};
  double eps = 1e-8;
};
void describe_options(config::Fields& fields, AdamWOptions& options);

class AdamWConfig : public OptimizerConfig {
 public:
  AdamWOptions options;

  std::string type() const override { return "adamw"; }
  void describe(config::Fields& fields) override;
  std::unique_ptr<Optimizer> build(Parameters& parameters) const override;
};

std::unique_ptr<ParameterGroup> make_adamw_group(std::vector<Parameter*> parameters,
                                                 double weight_decay, const AdamWOptions& options);

}  // namespace quench
