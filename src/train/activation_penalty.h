// The activation regularizer of the paper's fine-tuning (appendix; its Table 9): the mean square of
// every layer's FFN output, summed over the layers, is added to the loss. It draws outliers that a
// pretrained model has already back in.
#pragma once

#include "taps/taps.h"

namespace quench {

class ActivationPenalty : public TapListener {
 public:
  bool wants(const std::string& name) const override;
  at::Tensor activation(const std::string& name, const at::Tensor& x) override;
  bool replaces_weights() const override { return false; }

  // Of the forward pass since the last call: 0-dim float32, differentiable.
  at::Tensor take();

 private:
  at::Tensor sum_;
};

}  // namespace quench
