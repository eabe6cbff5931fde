// What the draws of the image room are for: the first part of each CounterRng key here. They
// continue the list in base/random.h from 100. Part of every result: append, never renumber.
#pragma once

#include <cstdint>

namespace quench {

inline constexpr uint64_t kSyntheticImage = 100;  // then seed, index
inline constexpr uint64_t kImageAugment = 101;    // then seed, step, position in the global batch
inline constexpr uint64_t kImageMix = 102;        // then seed, step

}  // namespace quench
