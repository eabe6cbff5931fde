// Images per second of the training loader alone (read, decode, augment, normalise, mix), without a
// model. Usage: image_loader FOLDER IMAGE_SIZE THREADS BATCHES; run by image_loader.sh.
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <exception>
#include <numeric>

#include "data/image/batcher.h"

int main(int argc, char** argv) try {
  if (argc != 5) {
    std::fprintf(stderr, "usage: %s FOLDER IMAGE_SIZE THREADS BATCHES\n", argv[0]);
    return 2;
  }
  constexpr int64_t kBatch = 128;
  quench::ImageOptions options;
  options.image_size = std::atoi(argv[2]);
  const quench::ImageSourcePtr source = quench::image_folder(argv[1]);
  const quench::ImageBatcher batcher(source, options, std::atoi(argv[3]));
  std::vector<int64_t> indices(kBatch);
  const int64_t batches = std::atoll(argv[4]);
  double seconds = 0, cpu_seconds = 0;
  for (int64_t step = 0; step <= batches; ++step) {
    // A stride that visits every class.
    for (int64_t i = 0; i < kBatch; ++i) indices[i] = (step * kBatch + i) * 97 % source->size();
    const auto start = std::chrono::steady_clock::now();
    const std::clock_t cpu_start = std::clock();
    batcher.training_batch({1, static_cast<uint64_t>(step), 0}, indices);
    const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
    if (step == 0) continue;  // the first batch warms up
    seconds += took.count();
    cpu_seconds += static_cast<double>(std::clock() - cpu_start) / CLOCKS_PER_SEC;
  }
  const double images = static_cast<double>(batches * kBatch);
  std::printf("quench         %.0f images/s, %.0f per CPU second\n", images / seconds,
              images / cpu_seconds);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "error: %s\n", error.what());
  return 1;
}
