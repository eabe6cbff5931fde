// The share of keys that a normalizer with a threshold keeps (attention/normalizers/threshold.cpp),
// the mean over the queries of text, over the layers. Not a choice in configs: the normalizer's own
// density_weight asks for it.
#include <ATen/ATen.h>

#include "penalties/penalties.h"

namespace quench {
namespace {

class Density : public Penalty {
 public:
  explicit Density(double own_weight) { weight = own_weight; }
  std::string type() const override { return "density"; }
  bool wants(const std::string& name) const override { return name.ends_with("attention.density"); }
  // x [B, H, T, 1]
  at::Tensor of(const at::Tensor& x, const at::Tensor& tokens) const override {
    return batch_mean(x.squeeze(-1).transpose(1, 2), tokens);
  }
  Over over_taps() const override { return Over::kMean; }
};

}  // namespace

std::shared_ptr<Penalty> make_density(double weight) { return std::make_shared<Density>(weight); }

}  // namespace quench
