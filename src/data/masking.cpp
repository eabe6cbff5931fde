#include "data/masking.h"

#include <algorithm>

#include "base/error.h"

namespace quench {

void mask_tokens(std::span<int64_t> ids, std::span<int64_t> labels, const MaskingOptions& options,
                 CounterRng& rng) {
  check(ids.size() == labels.size(), "masking: ", ids.size(), " ids but room for ", labels.size(),
        " labels.");
  check(options.probability >= 0 && options.probability <= 1, "masking: probability is ",
        options.probability, "; expected a number between 0 and 1.");
  check(options.mask_id >= 0 && options.mask_id < options.vocab_size,
        "masking: the mask token's id is ", options.mask_id, "; expected 0 to ",
        options.vocab_size - 1, ". Does the tokenizer have a mask token?");
  for (size_t i = 0; i < ids.size(); ++i) {
    const int64_t original = ids[i];
    labels[i] = kIgnoredLabel;
    if (std::ranges::find(options.special_ids, original) != options.special_ids.end()) continue;
    if (!rng.bernoulli(options.probability)) continue;
    labels[i] = original;
    if (rng.bernoulli(0.8)) {
      ids[i] = options.mask_id;
    } else if (rng.bernoulli(0.5)) {
      ids[i] = static_cast<int64_t>(rng.below(options.vocab_size));
    }
  }
}

}  // namespace quench
