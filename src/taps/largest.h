// The largest values of a tap: how far above the rest, and where they stand (Sun et al. 2024,
// "Massive Activations in Large Language Models").
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "base/json.h"

namespace quench {

class LargestValues {
 public:
  // x [B, T, D] of a batch, or [B, D]; `ids` int64 [B, T], its tokens, or undefined. Waits for no
  // device.
  void add(const at::Tensor& x, const at::Tensor& ids);

  // Mean over the sequences of max |x| / median |x|, all tokens and dimensions of a sequence
  // together (of an even number of values the lower median); NaN before the first.
  double max_to_median() const;

  // Where max |x| of a sequence stands, the most frequent first, three each: {"positions":
  // [{"position", "share"}], "tokens": [{"id", "share"}] (where there are tokens), "dimensions":
  // [{"dimension", "share"}]}, shares of the sequences.
  Json to_json() const;

 private:
  int64_t sequences_ = 0;
  std::vector<at::Tensor> ratios_, positions_, tokens_, dimensions_;  // [B] each
};

}  // namespace quench
