// K-bias and KV-bias (Sun et al. 2024, Gu et al. 2024): a key that every query sees, learned, one a
// head, beside those of the sequence: p_j = e^{x_j} / (e^{q k'} + sum_k e^{x_k}), q scaled. Its
// value is 0 or, with `value`, learned too. It stands behind norm, cap and mask of the scores, and
// dropout leaves it alone.
#include <ATen/ATen.h>

#include "attention/normalizers/normalizers.h"

namespace quench {
namespace {

class KeyBias : public Normalizer {
 public:
  bool value = false;
  double init_std = 0.02;

  std::string type() const override { return "key_bias"; }
  void describe(config::Fields& fields) override {
    fields("value", value, "its value is learned, too; otherwise it is 0");
    fields("init_std", init_std, "standard deviation of fresh keys and values",
           config::at_least(0));
  }
  NormalizerLayer add(Parameters& parameters, const NormalizerShape& shape) const override {
    const auto add_row = [&](const char* what) {
      return &parameters.add(shape.module + what, {shape.heads, shape.head_size},
                             Init::normal(init_std), Role::kToken);
    };
    Parameter* key = add_row(".key_bias");
    NormalizerLayer layer{.formula = [key](const MaskedScores& scores, const Taps& taps) {
      const at::Tensor x = widened(scores.values), k = tapped(*key, taps).unsqueeze(1);
      const at::Tensor own = (widened(scores.query) * k).sum(-1, /*keepdim=*/true);
      return (x - at::logaddexp(at::logsumexp(x, -1, /*keepdim=*/true), own)).exp();
    }};
    layer.parameters = {key};
    if (!value) return layer;
    layer.rest = add_row(".value_bias");
    layer.parameters.push_back(layer.rest);
    return layer;
  }
};

}  // namespace

std::shared_ptr<Normalizer> make_key_bias() { return std::make_shared<KeyBias>(); }

}  // namespace quench
