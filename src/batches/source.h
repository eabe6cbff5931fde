// Where batches come from. A source makes any batch of any samples as a pure function of its
// arguments; which samples come at which step is the loader's choice.
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "batches/batch.h"

namespace quench {

// Which samples, and what their random choices (masks, crops) depend on.
struct BatchRequest {
  std::span<const int64_t> samples;
  std::span<const int64_t> positions;  // each sample's place in the endless stream
  uint64_t seed = 0;
  int64_t step = 0;
  bool training = false;  // augment
};

// What a model takes. 0: not known, or not of this kind.
struct InputLimits {
  std::string model;  // its type, for messages
  int64_t vocabulary_or_classes = 0;
  int64_t token_types = 0;
  int64_t positions = 0;                 // tokens of a sequence
  int64_t channels = 0, image_side = 0;  // of pictures
};

// samples() of a source that has another one for every position of the stream, and no epochs.
inline constexpr int64_t kEndless = std::numeric_limits<int64_t>::max();

class BatchSource {
 public:
  virtual ~BatchSource() = default;
  virtual int64_t samples() const = 0;
  // The least loss that a model can expect on them; std::nullopt: nobody knows.
  virtual std::optional<double> optimal_loss() const { return std::nullopt; }
  // Throws Error naming what in it such a model does not take.
  virtual void check_fits(const InputLimits& /*limits*/) const {}
  // Of images, in the order of their labels; empty: not known.
  virtual std::vector<std::string> class_names() const { return {}; }
  virtual Batch batch(const BatchRequest& request) const = 0;
};

using BatchSourcePtr = std::shared_ptr<const BatchSource>;

// Samples [first, first + count) in order, as evaluation reads them.
Batch batch_in_order(const BatchSource& source, int64_t first, int64_t count, uint64_t seed);

}  // namespace quench
