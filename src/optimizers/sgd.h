// Stochastic gradient descent as torch.optim.SGD defines it, without dampening, through LibTorch's
// fused kernel: with the weights' decay d and momentum m
//   g <- g + d w;  b <- m b + g;  w <- w - rate b, or with Nesterov  w - rate (g + m b).
// So the decay is part of the gradient (L2), not decoupled as AdamW's. Buffer: "momentum" (b); none
// where m is 0.
#pragma once

#include "optimizers/optimizer.h"

namespace quench {

class SgdConfig : public OptimizerConfig {
 public:
  double momentum = 0.9;
  bool nesterov = false;

  SgdConfig();
  std::string type() const override { return "sgd"; }
  void describe(config::Fields& fields) override;
  std::unique_ptr<Optimizer> build(Parameters& parameters) const override;
};

}  // namespace quench
