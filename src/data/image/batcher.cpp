#include "data/image/batcher.h"

#include <algorithm>

#include "base/error.h"
#include "base/parallel.h"
#include "base/random.h"
#include "data/image/augment.h"
#include "data/image/mix.h"
#include "data/image/random_keys.h"

namespace quench {

ImageBatcher::ImageBatcher(ImageSourcePtr source, ImageOptions options, int threads,
                           OnError on_error)
    : source_(std::move(source)),
      options_(std::move(options)),
      threads_(std::max(1, threads)),
      on_error_(on_error) {}

Image ImageBatcher::load(int64_t& index) const {
  const int64_t size = source_->size();
  check(index >= 0 && index < size, "image ", index, " of a source of ", size);
  for (int64_t tried = 1;; ++tried, index = (index + 1) % size) {
    try {
      return source_->load(index);
    } catch (const Error&) {
      if (on_error_ == OnError::kFail || tried == size) throw;
    }
  }
}

template <class Transform>
ImageBatch ImageBatcher::make_batch(std::span<const int64_t> indices, bool training,
                                    Transform transform) const {
  const size_t sample = size_t{3} * options_.image_size * options_.image_size;
  ImageBatch batch;
  batch.pixel_values.resize(indices.size() * sample);
  batch.labels.resize(indices.size());
  parallel_for(static_cast<int64_t>(indices.size()), threads_, [&](int64_t i) {
    int64_t index = indices[i];
    const Image image = load(index);
    batch.labels[i] = training || index == indices[i] ? source_->label(index) : -100;
    transform(i, image, batch.pixel_values.data() + i * sample);
  });
  return batch;
}

ImageBatch ImageBatcher::training_batch(const BatchKey& key,
                                        std::span<const int64_t> indices) const {
  check(!mixes(options_) || (indices.size() % 2 == 0 && key.first_position % 2 == 0),
        "mixup and cutmix pair neighbours: ", indices.size(), " images from position ",
        key.first_position, " of the batch, expected even numbers");
  ImageBatch batch =
      make_batch(indices, /*training=*/true, [&](int64_t i, const Image& image, float* planes) {
        const auto position = static_cast<uint64_t>(key.first_position + i);
        CounterRng rng({kImageAugment, key.seed, key.step, position});
        normalize(transform_for_training(image, options_, rng), options_, planes);
        erase_randomly(planes, static_cast<int>(options_.image_size), options_.erase_probability,
                       rng);
      });
  CounterRng rng({kImageMix, key.seed, key.step});
  const MixPlan plan = plan_mix(options_, rng);
  mix_pixels(batch.pixel_values, static_cast<int>(options_.image_size), plan);
  batch.targets = mixed_targets(batch.labels, source_->classes(), options_.label_smoothing, plan);
  return batch;
}

ImageBatch ImageBatcher::evaluation_batch(std::span<const int64_t> indices) const {
  return make_batch(indices, /*training=*/false, [&](int64_t, const Image& image, float* planes) {
    normalize(transform_for_evaluation(image, options_), options_, planes);
  });
}

}  // namespace quench
