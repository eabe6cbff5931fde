// The stream of training batches, made ahead of the step by a thread of its own. Batch s of rank r
// is a pure function of (seed, s, r): a resumed run continues with the very batch that came next,
// and prefetching changes no result.
#pragma once

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

#include "batches/source.h"
#include "data/sampler.h"

namespace quench {

struct LoaderOptions {
  int64_t batch_size = 32;
  uint64_t seed = 0;
  bool shuffle = true;
  int64_t rank = 0;
  int64_t world_size = 1;
};

class Loader {
 public:
  // The first call of next() returns batch `first`.
  Loader(BatchSourcePtr source, const LoaderOptions& options, int64_t first = 0);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  // Throws what making the batch threw.
  Batch next();

 private:
  static constexpr size_t kDepth = 3;  // batches ahead

  Batch make(int64_t step) const;
  void run(int64_t first);

  BatchSourcePtr source_;
  LoaderOptions options_;
  Sampler sampler_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Batch> ready_;
  std::exception_ptr error_;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace quench
