// Masked-language-model labels, the 80/10/10 rule (Devlin et al. 2018, section 3.1) as the
// reference's collator draws it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/random.h"

namespace quench {

inline constexpr int64_t kIgnoredLabel = -100;

struct MaskingOptions {
  double probability = 0.15;         // that a candidate is selected
  int64_t mask_id = -1;              // what stands at 80 % of the selected
  int64_t vocab_size = 0;            // 10 % get a random id in [0, vocab_size); the last 10 % stay
  std::vector<int32_t> special_ids;  // never selected
};

// Selects positions of `ids`, replaces them in place, and sets `labels` to the original id there
// and to kIgnoredLabel elsewhere. A pure function of its arguments: key `rng` with {kMasking, seed,
// position in the stream}. Throws Error when an option is out of range or the sizes differ.
void mask_tokens(std::span<int64_t> ids, std::span<int64_t> labels, const MaskingOptions& options,
                 CounterRng& rng);

}  // namespace quench
