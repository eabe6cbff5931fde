// Cures in the blocks of a model, which Hugging Face's models do not have: keys of the `model`
// section, and of config.json where they are not the default.
#pragma once

#include <string>

#include "base/json.h"
#include "config/fields.h"

namespace quench {

struct BlockCures {
  std::string norm = "layer";  // layer | rms | rms_scalar (nn/norm.h), of every norm of the model
  // A norm of its own on each branch, before the residual sum: x + norm(f(norm(x))) (Ding et al.
  // 2021, Gemma 2).
  bool sandwich_norm = false;

  void describe(config::Fields& fields);
  void add_to(Json& hugging_face) const;
};

// EmbProj of Park et al. 2025: a matrix [D, D] behind the token embedding, another before the
// head, orthogonal at the start, so that no dimension of the residual stream is the
// vocabulary's own.
inline constexpr const char* kEmbeddingProjectionHelp =
    "a matrix behind the token embedding, and one before the head";

}  // namespace quench
