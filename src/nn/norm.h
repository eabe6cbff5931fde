// Normalizations over the last dimension, with a gain. All accept any floating dtype.
//
//   layer       y = w (x - mean x) / sqrt(var x + eps) + b
//   rms         y = w x / sqrt(mean x^2 + eps)
//   rms_scalar  the same with one gain for all dimensions (SSNorm of Park et al. 2025,
//               "Outlier-Safe Pre-Training"): no dimension can be amplified over the others
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "nn/parameters.h"

namespace quench {

enum class NormKind { kLayer, kRms, kRmsScalar };

// Of "layer", "rms" or "rms_scalar".
NormKind norm_kind(const std::string& name);

struct NormOptions {
  NormKind kind = NormKind::kLayer;
  double eps = 1e-12;
};

struct Norm {
  Parameter* weight = nullptr;  // [size], or [1] of rms_scalar
  Parameter* bias = nullptr;    // [size]; of layer only
  NormOptions options = {};
  at::Tensor operator()(const at::Tensor& x, const Taps& taps) const;
};

// Adds `<name>.weight` and, of a layer norm, `<name>.bias`.
Norm add_norm(Parameters& parameters, const std::string& name, int64_t size,
              const NormOptions& options);

}  // namespace quench
