// ReLU attention (Wortsman et al. 2023): y_j = relu(x_j) / n, n the keys that the query sees.
#include <ATen/ATen.h>

#include "attention/normalizers/normalizers.h"

namespace quench {
namespace {

class Relu : public Normalizer {
 public:
  std::string type() const override { return "relu"; }
  void describe(config::Fields&) override {}
  NormalizerLayer add(Parameters&, const NormalizerShape&) const override {
    return {[](const MaskedScores& scores, const Taps&) {
      const at::Tensor x = widened(scores.values);
      return (at::relu(x) / seen_keys(scores, x));
    }};
  }
};

}  // namespace

std::shared_ptr<Normalizer> make_relu() { return std::make_shared<Relu>(); }

}  // namespace quench
