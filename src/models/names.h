// Checkpoints name the same tensors in several ways: with or without the model's prefix, before or
// after a renaming in transformers, with tied weights written out or not. Our parameters have the
// names that transformers writes to disk; this makes those of all others.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "models/traits.h"

namespace quench {

struct OurNames {
  std::map<std::string, at::Tensor> tensors;
  std::vector<std::string> unused;  // of parts that our models lack (pooler, next-sentence head)
};

// Without what PyTorch's wrappers leave in names (module., _orig_mod., _fsdp_wrapped_module.,
// _checkpoint_wrapped_module., and a prefix that a trainer's own module has put before all), which
// is told. Throws Error when two tensors come to one name.
std::map<std::string, at::Tensor> unwrapped(const std::map<std::string, at::Tensor>& tensors,
                                            const ModelTraits& traits);

// Throws Error when two tensors come to one name, or tied weights differ.
OurNames our_names(const Spellings& spellings, const std::map<std::string, at::Tensor>& tensors);

// The `attention.gate` section that the gate parameters (SPEC 2) imply. What they do not show is
// left out: whether a conditional gate is per token or per head, and the scale of its output.
Json gate_section(const std::map<std::string, at::Tensor>& tensors);

// Whether a parameter of ours belongs to a gate.
bool is_gate(const std::string& parameter);

// Whether it is one that a cure adds to the attention of a vanilla model: a gate, a sink, a norm of
// query and key.
bool is_added(const std::string& parameter);

}  // namespace quench
