// Sequences for the tiny BERT, from a source that notes what it was asked for.
#pragma once

#include <algorithm>
#include <thread>
#include <vector>

#include "base/error.h"
#include "batches/source.h"
#include "tests/models/tiny_bert.h"

namespace quench {

class TinySource : public BatchSource {
 public:
  struct Request {
    std::vector<int64_t> samples, positions;
    uint64_t seed;
    int64_t step;
    bool training;
    std::thread::id thread;
  };

  // Sample `unreadable` cannot be read.
  explicit TinySource(int64_t samples, int64_t unreadable = -1)
      : samples_(samples), unreadable_(unreadable) {}

  int64_t samples() const override { return samples_; }
  Batch batch(const BatchRequest& r) const override {
    if (std::ranges::count(r.samples, unreadable_) > 0) fail("cannot read sample ", unreadable_);
    requests_.push_back({{r.samples.begin(), r.samples.end()},
                         {r.positions.begin(), r.positions.end()},
                         r.seed,
                         r.step,
                         r.training,
                         std::this_thread::get_id()});
    return tiny_batch(r.samples[0], static_cast<int64_t>(r.samples.size()));
  }

  const std::vector<Request>& requests() const { return requests_; }

 private:
  int64_t samples_, unreadable_;
  mutable std::vector<Request> requests_;
};

}  // namespace quench
