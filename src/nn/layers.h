// The layers that every model is made of: weights by reference, one call. All accept any floating
// dtype.
#pragma once

#include <ATen/core/Tensor.h>

#include "nn/parameters.h"

namespace quench {

// y = x W^T + b;  x [..., in], W [out, in], b [out] (bias may be null).
struct Linear {
  Parameter* weight = nullptr;
  Parameter* bias = nullptr;
  at::Tensor operator()(const at::Tensor& x, const Taps& taps) const;
};
Linear add_linear(Parameters& parameters, const std::string& name, int64_t in, int64_t out,
                  Init weight, Init bias = Init::constant(0), bool has_bias = true,
                  Role role = Role::kMatrix);

// Rows `rows` (int64 [N]) of x [B, T, D] seen as [B T, D]; x itself where `rows` is undefined.
at::Tensor select_rows(const at::Tensor& x, const at::Tensor& rows);

// Rows of a table; ids int64 [...], result [..., size]. The padding row, if any, receives no
// gradient from here.
struct Embedding {
  Parameter* weight = nullptr;
  int64_t padding_row = -1;
  // For a table that is tied to the last layer: its lookups add a few rows to that layer's dense
  // gradient.
  bool sparse_gradient = false;
  at::Tensor operator()(const at::Tensor& ids, const Taps& taps) const;
};
Embedding add_embedding(Parameters& parameters, const std::string& name, int64_t rows, int64_t size,
                        Init init, int64_t padding_row = -1);

}  // namespace quench
