// Normalizers: masked attention scores -> probabilities. A new one is a class like those below and
// one line in `normalizers()`; config, schema and --help follow from its describe().
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>

#include "config/fields.h"

namespace quench {

// p -> clip((zeta - gamma) p + gamma, 0, 1); the identity on probabilities for gamma = 0, zeta = 1.
struct Stretch {
  double gamma = 0;
  double zeta = 1;
  bool identity() const { return gamma == 0 && zeta == 1; }
};

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual std::string type() const = 0;
  virtual void describe(config::Fields& fields) = 0;
  // scores [B, H, T, T] -> probabilities, same shape and dtype. max_seq_length is the configured
  // length, not T.
  virtual at::Tensor operator()(const at::Tensor& scores, int64_t max_seq_length) const = 0;
  // Set where the normalizer is a stretched and clipped softmax, which the fused kernel computes.
  virtual std::optional<Stretch> stretch(int64_t max_seq_length) const = 0;
};

class Softmax : public Normalizer {
 public:
  std::string type() const override { return "softmax"; }
  void describe(config::Fields&) override {}
  at::Tensor operator()(const at::Tensor& scores, int64_t max_seq_length) const override;
  std::optional<Stretch> stretch(int64_t) const override { return Stretch{}; }
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
  at::Tensor operator()(const at::Tensor& scores, int64_t max_seq_length) const override;
  std::optional<Stretch> stretch(int64_t max_seq_length) const override;
};

const config::Registry<Normalizer>& normalizers();

// clip((zeta - gamma) p + gamma, 0, 1); the gradient of the clip is 1 at both ends.
at::Tensor stretch_and_clip(const at::Tensor& probabilities, const Stretch& stretch);

}  // namespace quench
