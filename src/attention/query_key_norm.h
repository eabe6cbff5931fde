// QK-norm: query and key of each head are normalised before their product, with a gain for each of
// the d features that all heads share. Bounds the scores by sqrt(d) times the largest gains.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <string>

#include "nn/norm.h"

namespace quench {

class QueryKeyNorm {
 public:
  QueryKeyNorm() = default;
  // `type`: none | rms | layer. Adds `<module>.query_norm.weight` [d], the same of the key, and of
  // LayerNorms their biases.
  QueryKeyNorm(Parameters& parameters, const std::string& type, const std::string& module,
               int64_t head_size);

  bool active() const { return query_.weight != nullptr; }
  // query or key [B, T, D], as projected -> normalised.
  at::Tensor query(const at::Tensor& x, const Taps& taps) const { return apply(query_, x, taps); }
  at::Tensor key(const at::Tensor& x, const Taps& taps) const { return apply(key_, x, taps); }

 private:
  at::Tensor apply(const Norm& norm, const at::Tensor& x, const Taps& taps) const;

  Norm query_, key_;
};

}  // namespace quench
