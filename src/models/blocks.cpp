#include "models/blocks.h"

namespace quench {

void BlockCures::describe(config::Fields& f) {
  f("norm", norm, "of every norm: layer, rms, or rms_scalar (one gain for all dimensions)",
    config::one_of({"layer", "rms", "rms_scalar"}));
  f("sandwich_norm", sandwich_norm, "a norm on each branch, before the residual sum");
}

void BlockCures::add_to(Json& hugging_face) const {
  const BlockCures none;
  if (norm != none.norm) hugging_face["norm"] = norm;
  if (sandwich_norm) hugging_face["sandwich_norm"] = true;
}

}  // namespace quench
