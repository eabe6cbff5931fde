// A stream of batches, made ahead of their use by a thread of its own. Which batch comes at which
// step is a function of the step alone, so a resumed run continues with the very batch that came
// next, and prefetching changes no result.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <thread>

#include "batches/source.h"

namespace quench {

// Batch `step` of a stream; std::nullopt: the stream has ended.
using MakeBatch = std::function<std::optional<Batch>(int64_t step)>;

struct TrainingOrder {
  int64_t batch_size = 32;
  uint64_t seed = 0;
  bool shuffle = true;
  int64_t rank = 0;
  int64_t world_size = 1;
};
// The endless stream of one rank. Throws Error if `source` has no sample.
MakeBatch training_batches(BatchSourcePtr source, const TrainingOrder& order);

class Loader {
 public:
  // The first call of next() returns batch `first`. Only the loader's thread calls `make`, in
  // order, up to `ahead` batches before they are asked for. `device` is where the caller will send
  // the batches: for a CUDA device they are pinned.
  Loader(MakeBatch make, at::Device device, int64_t first = 0, size_t ahead = 3);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // On the CPU; std::nullopt after the last. Throws what making the batch threw.
  std::optional<Batch> next();

 private:
  void run(int64_t first);

  MakeBatch make_;
  at::Device device_;
  size_t ahead_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Batch> ready_;
  bool ended_ = false;  // nothing comes after `ready_` but the error
  std::exception_ptr error_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace quench
