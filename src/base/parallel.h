#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>
#include <thread>
#include <vector>

namespace quench {

inline int processors() {
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// Calls body(0) ... body(count - 1) on up to `threads` threads, the calling one among them;
// afterwards throws what the lowest failed index threw, so that the message does not depend on
// timing.
template <class Body>
void parallel_for(int64_t count, int threads, Body body) {
  std::vector<std::exception_ptr> errors(count);
  std::atomic<int64_t> next{0};
  const auto work = [&] {
    for (int64_t i = next++; i < count; i = next++) {
      try {
        body(i);
      } catch (...) {
        errors[i] = std::current_exception();
      }
    }
  };
  {
    std::vector<std::jthread> workers;
    for (int64_t i = 1; i < std::min<int64_t>(threads, count); ++i) workers.emplace_back(work);
    work();
  }
  for (const auto& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace quench
