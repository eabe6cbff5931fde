#include "batches/loader.h"

#include <vector>

namespace quench {

Loader::Loader(BatchSourcePtr source, const LoaderOptions& options, int64_t first)
    : source_(std::move(source)),
      options_(options),
      sampler_(source_->samples(), options.seed, options.shuffle),
      thread_([this, first] { run(first); }) {}

Loader::~Loader() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

Batch Loader::make(int64_t step) const {
  const size_t size = static_cast<size_t>(options_.batch_size);
  std::vector<int64_t> samples(size), positions(size);
  for (size_t i = 0; i < size; ++i) {
    positions[i] = stream_position(step, options_.rank, static_cast<int64_t>(i),
                                   options_.batch_size, options_.world_size);
    samples[i] = sampler_.index(positions[i]);
  }
  return source_->batch({samples, positions, options_.seed, step, /*training=*/true});
}

void Loader::run(int64_t step) {
  for (;; ++step) {
    Batch batch;
    std::exception_ptr error;
    try {
      batch = make(step);
    } catch (...) {
      error = std::current_exception();
    }
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stop_ || ready_.size() < kDepth; });
    if (stop_) return;
    if (error) {
      error_ = error;
    } else {
      ready_.push_back(std::move(batch));
    }
    changed_.notify_all();
    if (error) return;
  }
}

Batch Loader::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !ready_.empty() || error_; });
  if (ready_.empty()) std::rethrow_exception(error_);
  Batch batch = std::move(ready_.front());
  ready_.pop_front();
  changed_.notify_all();
  return batch;
}

}  // namespace quench
