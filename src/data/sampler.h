// Which sample comes when: a pure function of (seed, position), so that resuming needs no state and
// any number of ranks or threads sees the same stream.
#pragma once

#include <cstdint>

namespace quench {

// An endless stream over `samples` samples: every epoch of `samples` positions visits each once, in
// an order of its own when shuffled. Constant time and memory; safe to share between threads.
class Sampler {
 public:
  // Throws Error unless samples > 0.
  Sampler(int64_t samples, uint64_t seed, bool shuffle);

  // The sample at `position` >= 0 of the stream.
  int64_t index(int64_t position) const;

  int64_t samples() const { return samples_; }

 private:
  int64_t samples_;
  uint64_t seed_;
  bool shuffle_;
  int half_bits_;  // the shuffle permutes [0, 4^half_bits_), the least such range that holds all
                   // samples
};

// The stream position of sample `i` of rank `rank`'s batch at `step`: the ranks' batches lie side
// by side in the global batch of batch_size * world_size samples.
constexpr int64_t stream_position(int64_t step, int64_t rank, int64_t i, int64_t batch_size,
                                  int64_t world_size) {
  return (step * world_size + rank) * batch_size + i;
}

}  // namespace quench
