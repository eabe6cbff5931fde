// Randomness that is a pure function of its key: the same key gives the same draws on every
// platform, thread count and number of ranks, for ever. A key is a purpose and what the draw
// belongs to, e.g. {kMasking, seed, position}.
//
// The generator is SplitMix64 (Steele, Lea, Flood 2014): a counter that steps by the golden ratio,
// and a bijective finalizer. https://doi.org/10.1145/2714064.2660195
#pragma once

#include <cstdint>
#include <initializer_list>
#include <vector>

namespace quench {

// What a key's draws are for, so that no two purposes share a stream. Part of every result: append,
// never renumber.
inline constexpr uint64_t kShuffle = 1;
inline constexpr uint64_t kMasking = 2;
inline constexpr uint64_t kSplit = 3;
inline constexpr uint64_t kBackcopy = 4;  // then seed, subset, position

// SplitMix64's finalizer: a bijection in which every input bit flips half of the output's.
constexpr uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

class CounterRng {
 public:
  explicit CounterRng(std::initializer_list<uint64_t> key);

  uint64_t next() { return mix(state_ += kStep); }

  // Uniform in [0, 1), with 53 bits.
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

  // Uniform in [0, n), exactly. n > 0.
  uint64_t below(uint64_t n);

  bool bernoulli(double p) { return uniform() < p; }

  // Standard normal (Box-Muller). The platform's log and cos may move its last bits.
  double normal();

 private:
  static constexpr uint64_t kStep = 0x9e3779b97f4a7c15u;
  uint64_t state_ = 0;
};

// A uniformly random order of 0 … n-1.
std::vector<int64_t> permutation(int64_t n, CounterRng& rng);

}  // namespace quench
