// TWEO (2025, arXiv:2511.23225): weight / L * sum over the layers of mean(|A|^p / (tau + eps)^p),
// the mean over the features of all tokens. A is a layer's residual stream after its last sum: in a
// pre-LN layer what it hands on, in a post-LN layer that before the norm, where outliers stand.
#include <ATen/ATen.h>

#include "penalties/penalties.h"

namespace quench {
namespace {

class Tweo : public Penalty {
 public:
  double p = 4, tau = 3, eps = 1e-6;

  Tweo() { weight = 0.01; }
  std::string type() const override { return "tweo"; }
  void describe(config::Fields& fields) override {
    Penalty::describe(fields);
    fields("p", p, "power of the activations", config::between(2, 16));
    fields("tau", tau, "activations below it cost little, above it much", config::greater_than(0));
    fields("eps", eps, "is added to tau", config::at_least(0));
  }
  bool wants(const std::string& name) const override { return name.ends_with(".ffn.residual"); }
  // Divided before the power, which float32 would not hold else; squares are cheap, powers are not.
  at::Tensor of(const at::Tensor& x, const at::Tensor& tokens) const override {
    return batch_mean((x / (tau + eps)).square().pow(p / 2), tokens);
  }
  Over over_taps() const override { return Over::kMean; }
};

}  // namespace

std::shared_ptr<Penalty> make_tweo() { return std::make_shared<Tweo>(); }

}  // namespace quench
