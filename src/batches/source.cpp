#include "batches/source.h"

#include <numeric>
#include <vector>

namespace quench {

Batch batch_in_order(const BatchSource& source, int64_t first, int64_t count, uint64_t seed) {
  std::vector<int64_t> samples(static_cast<size_t>(count));
  std::iota(samples.begin(), samples.end(), first);
  return source.batch({samples, samples, seed, 0, /*training=*/false});
}

}  // namespace quench
