// Sigmoid attention (Ramapuram et al. 2024): y_j = sigmoid(x_j + b). Keys do not compete; b keeps
// the sum of a row near 1 at the start.
#include <ATen/ATen.h>

#include <cmath>

#include "attention/normalizers/normalizers.h"

namespace quench {
namespace {

class Sigmoid : public Normalizer {
 public:
  std::optional<double> bias;

  std::string type() const override { return "sigmoid"; }
  void describe(config::Fields& fields) override {
    fields("bias", bias, "added to every score; default -ln max_seq_length");
  }
  NormalizerLayer add(Parameters&, const NormalizerShape& shape) const override {
    const double b =
        bias.value_or(-std::log(static_cast<double>(std::max<int64_t>(1, shape.max_seq_length))));
    return {[b](const MaskedScores& scores, const Taps&) {
      return at::sigmoid(widened(scores.values) + b);
    }};
  }
};

}  // namespace

std::shared_ptr<Normalizer> make_sigmoid() { return std::make_shared<Sigmoid>(); }

}  // namespace quench
