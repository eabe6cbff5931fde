#include "batches/loader.h"

#include <vector>

#include "data/sampler.h"

namespace quench {

MakeBatch training_batches(BatchSourcePtr source, const TrainingOrder& order) {
  const Sampler sampler(source->samples(), order.seed, order.shuffle);
  return [source = std::move(source), order, sampler](int64_t step) {
    const size_t size = static_cast<size_t>(order.batch_size);
    std::vector<int64_t> samples(size), positions(size);
    for (size_t i = 0; i < size; ++i) {
      positions[i] = stream_position(step, order.rank, static_cast<int64_t>(i), order.batch_size,
                                     order.world_size);
      samples[i] = sampler.index(positions[i]);
    }
    return source->batch({samples, positions, order.seed, step, /*training=*/true});
  };
}

Loader::Loader(MakeBatch make, at::Device device, int64_t first, size_t ahead)
    : make_(std::move(make)),
      device_(device),
      ahead_(ahead),
      thread_([this, first] { run(first); }) {}

Loader::~Loader() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Loader::run(int64_t step) {
  for (;; ++step) {
    std::optional<Batch> batch;
    std::exception_ptr error;
    try {
      batch = make_(step);
      if (batch && device_.is_cuda()) batch = batch->pinned();
    } catch (...) {
      batch.reset();
      error = std::current_exception();
    }
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return stop_ || ready_.size() < ahead_; });
    if (stop_) return;
    if (batch) {
      ready_.push_back(std::move(*batch));
    } else {
      ended_ = true;
      error_ = error;
    }
    changed_.notify_all();
    if (ended_) return;
  }
}

std::optional<Batch> Loader::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [&] { return !ready_.empty() || ended_; });
  if (ready_.empty()) {
    if (error_) std::rethrow_exception(error_);
    return std::nullopt;
  }
  Batch batch = std::move(ready_.front());
  ready_.pop_front();
  changed_.notify_all();
  return batch;
}

}  // namespace quench
