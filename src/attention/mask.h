// Which keys a query may attend to.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>

namespace quench {

// Of one forward pass.
struct AttentionMask {
  at::Tensor keys;  // bool [B, T], true = attend; undefined = all
  bool causal = false;

  // What every layer needs of it, formed by the first that asks; copies share it.
  struct Formed {
    at::Tensor padding;  // [B, 1, 1, T]: 0, or the lowest finite value where not `keys`
    at::Tensor future;   // bool [T, T]: above the diagonal
  };
  std::shared_ptr<Formed> formed = std::make_shared<Formed>();
};

// Scores of the queries [first_row, first_row + R) and the first N of the T keys.
struct MaskedScores {
  at::Tensor values;  // [B, H, R, N], the lowest finite value where a key may not be seen
  AttentionMask mask = {};
  int64_t first_row = 0;
  at::Tensor query = {};           // [B, H, R, d], scaled
  at::Tensor key = {};             // [B, H, N, d]
  std::optional<double> cap = {};  // of the scores before the mask
  bool training = false;

  // bool, broadcastable to `values`: the keys that a query may see; undefined: all.
  at::Tensor seen() const;
};

// Masks scores [B, H, R, N] by the reference's arithmetic (SPEC 1.4): a query whose every key is
// masked attends to all T alike under a softmax, and what gradient its scores get is the
// reference's too.
MaskedScores mask_scores(const at::Tensor& scores, const AttentionMask& mask, int64_t first_row = 0,
                         const at::Tensor& query = {});

}  // namespace quench
