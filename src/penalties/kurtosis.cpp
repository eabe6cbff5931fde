// The kurtosis penalty of Nrusimha et al. (2024, arXiv:2404.03605): weight * sum over the linear
// layers of the blocks of the kurtosis of their outputs, K = m4 / m2^2 of the central moments (3
// for a normal distribution). Neither what the moments are taken over nor the weight is published.
// Here: over all features of the tokens of a sequence, as in what `quench eval` reports, averaged
// over the sequences of a batch; query and key are looked at behind a query_key_norm; a gate's own
// layers are left out.
#include <ATen/ATen.h>

#include <algorithm>
#include <array>

#include "penalties/penalties.h"

namespace quench {
namespace {

constexpr std::array kLinearOutputs = {".attention.query",    ".attention.key",
                                       ".attention.value",    ".attention.output",
                                       ".ffn.pre_activation", ".ffn.output"};
constexpr double kLeastVariance = 1e-12;  // of a constant sequence: its K is 0, not 0 / 0

class Kurtosis : public Penalty {
 public:
  Kurtosis() { weight = 1e-4; }
  std::string type() const override { return "kurtosis"; }
  bool wants(const std::string& name) const override {
    return std::ranges::any_of(kLinearOutputs,
                               [&](const char* point) { return name.ends_with(point); });
  }
  at::Tensor of(const at::Tensor& x, const at::Tensor& tokens) const override {
    const at::Tensor centred = x - sequence_means(x, tokens);
    const at::Tensor variance = sequence_means(centred.square(), tokens) + kLeastVariance;
    return sequence_means((centred * variance.rsqrt()).square().square(), tokens).mean();
  }
};

}  // namespace

std::shared_ptr<Penalty> make_kurtosis() { return std::make_shared<Kurtosis>(); }

}  // namespace quench
