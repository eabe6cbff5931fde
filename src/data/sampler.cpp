#include "data/sampler.h"

#include <algorithm>
#include <array>
#include <bit>

#include "base/error.h"
#include "base/random.h"

namespace quench {
namespace {

constexpr int kRounds = 6;

// A keyed permutation of [0, 4^half_bits): a Feistel network over the two halves of the number's
// bits.
uint64_t permute(uint64_t x, int half_bits, const std::array<uint64_t, kRounds>& keys) {
  const uint64_t mask = (uint64_t{1} << half_bits) - 1;
  uint64_t left = x >> half_bits, right = x & mask;
  for (uint64_t key : keys) {
    const uint64_t next = left ^ (mix(right ^ key) & mask);
    left = right;
    right = next;
  }
  return left << half_bits | right;
}

}  // namespace

Sampler::Sampler(int64_t samples, uint64_t seed, bool shuffle)
    : samples_(samples), seed_(seed), shuffle_(shuffle) {
  check(samples > 0, "cannot draw from a data set of ", samples, " samples: at least 1 is needed.");
  // Narrow halves mix badly; a domain of at least 256 costs small sets only a few more walks.
  half_bits_ = std::max<int>(4, (std::bit_width(static_cast<uint64_t>(samples - 1)) + 1) / 2);
}

int64_t Sampler::index(int64_t position) const {
  const uint64_t epoch = position / samples_;
  uint64_t x = position % samples_;
  if (!shuffle_) return static_cast<int64_t>(x);
  CounterRng rng{kShuffle, seed_, epoch};
  std::array<uint64_t, kRounds> keys;
  for (uint64_t& key : keys) key = rng.next();
  // Walking the cycle until it is back among the samples keeps this a permutation of them.
  do x = permute(x, half_bits_, keys);
  while (x >= static_cast<uint64_t>(samples_));
  return static_cast<int64_t>(x);
}

}  // namespace quench
