// The softmax, and the paper's clipped softmax.
#pragma once

#include "attention/normalizer.h"

namespace quench {

// A query that sees no key attends to all alike, as in the reference (mask_scores()).
class Softmax : public Normalizer {
 public:
  std::string type() const override { return "softmax"; }
  void describe(config::Fields&) override {}
  NormalizerLayer add(Parameters& parameters, const NormalizerShape& shape) const override;
};

// Clipped softmax, eq. 4 of the paper: clip((zeta - gamma) softmax(x) + gamma, 0, 1). Rows are not
// renormalised.
class ClippedSoftmax : public Normalizer {
 public:
  std::optional<double> gamma;  // <= 0
  std::optional<double> zeta;   // >= 1
  std::optional<double> alpha;  // gamma = -alpha / max_seq_length, zeta = 1; excludes the other two

  std::string type() const override { return "clipped"; }
  void describe(config::Fields& fields) override;
  NormalizerLayer add(Parameters& parameters, const NormalizerShape& shape) const override;
  Stretch stretch(int64_t max_seq_length) const;
};

// Both, a row at a time.
std::shared_ptr<const RowFunction> softmax_rows(const Stretch& stretch);

// Half-precision scores are normalised in float32; the result is float32 then.
at::Tensor softmax(const at::Tensor& scores);

// clip((zeta - gamma) p + gamma, 0, 1); the gradient of the clip is 1 at both ends.
at::Tensor stretch_and_clip(const at::Tensor& probabilities, const Stretch& stretch);

}  // namespace quench
