// The activation regularizer of the paper's fine-tuning (appendix; its Table 9): the mean square of
// every layer's FFN output, summed over the layers, is added to the loss. It draws outliers that a
// pretrained model has already back in. Padding counts, as it does in the paper's code; the paper
// calls the weight small, without a number.
#include <ATen/ATen.h>

#include "penalties/penalties.h"

namespace quench {
namespace {

class ActivationNorm : public Penalty {
 public:
  ActivationNorm() { weight = 1e-4; }
  std::string type() const override { return "activation_norm"; }
  bool wants(const std::string& name) const override { return name.ends_with(".ffn.output"); }
  at::Tensor of(const at::Tensor& x, const at::Tensor&) const override { return x.square().mean(); }
};

}  // namespace

std::shared_ptr<Penalty> make_activation_norm() { return std::make_shared<ActivationNorm>(); }

}  // namespace quench
