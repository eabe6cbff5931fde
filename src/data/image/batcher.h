// Batches of pictures for a vision model, made by several threads. A training batch is a pure
// function of (source, options, seed, step, positions, indices): neither the number of threads nor
// how a global batch is cut into ranks and micro-batches changes a value.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "data/image/options.h"
#include "data/image/source.h"

namespace quench {

struct ImageBatch {
  std::vector<float> pixel_values;  // [samples, 3, image_size, image_size]
  std::vector<int64_t> labels;      // [samples]
  std::vector<float> targets;       // [samples, classes], rows sum to 1; empty in evaluation
};

// Which part of which training step a batch is. `first_position` counts in the global batch of the
// step, over all ranks and micro-batches; with Mixup or CutMix it is even.
struct BatchKey {
  uint64_t seed = 0;
  uint64_t step = 0;
  int64_t first_position = 0;
};

class ImageBatcher {
 public:
  // With kSkip a picture that cannot be read gives way to the next readable one, which counts in
  // training only: an evaluation's label is -100 there.
  ImageBatcher(ImageSourcePtr source, ImageOptions options, int threads,
               OnError on_error = OnError::kFail);

  ImageBatch training_batch(const BatchKey& key, std::span<const int64_t> indices) const;
  ImageBatch evaluation_batch(std::span<const int64_t> indices) const;

 private:
  template <class Transform>
  ImageBatch make_batch(std::span<const int64_t> indices, bool training, Transform transform) const;
  // Moves `index` on to the picture that it returns.
  Image load(int64_t& index) const;

  ImageSourcePtr source_;
  ImageOptions options_;
  int threads_;
  OnError on_error_;
};

}  // namespace quench
