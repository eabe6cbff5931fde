// Dropout whose mask is a function of (seed, step, site, sample, element), on every device the
// same: nothing to save for resuming, nothing that the number of threads, a kernel's geometry or
// the number of passes of a step can change. The mask comes from a counter-based hash and is formed
// again in the backward pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace quench {

// One dropout of one forward pass. All passes of a step draw from one mask, of all its samples: a
// pass over x [B, ...] takes the part of the samples [first_sample, first_sample + B).
struct DropoutSite {
  uint64_t key = 0;
  int64_t first_sample = 0;
};

// The random stream of one forward pass. Sites are numbered in the order in which the pass meets
// them.
class DropoutStream {
 public:
  DropoutStream() = default;  // evaluation: nothing is dropped
  DropoutStream(uint64_t seed, uint64_t step, int64_t first_sample = 0)
      : seed_(seed), step_(step), first_sample_(first_sample), training_(true) {}

  bool training() const { return training_; }
  DropoutSite next();

 private:
  uint64_t seed_ = 0, step_ = 0, site_ = 0;
  int64_t first_sample_ = 0;
  bool training_ = false;
};

// Element i of a step's samples is kept iff dropout_hash(key, i) >= dropout_threshold(p):
// probability 1 - p within 2^-32.
inline uint32_t dropout_threshold(double p) { return static_cast<uint32_t>(p * 4294967296.0); }

inline __attribute__((always_inline)) uint32_t dropout_hash(uint64_t key, uint32_t element) {
  uint32_t x = element ^ static_cast<uint32_t>(key);
  x = (x ^ (x >> 16)) * 0x7feb352du + static_cast<uint32_t>(key >> 32);
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

// Elements are hashed in blocks of 2^32; block b has this key.
uint64_t dropout_block_key(uint64_t key, uint64_t block);

// Where the rows of x lie in a whole [B, ..., rows, columns]. Without an index, x [B, ..., R, C]
// holds its rows [first_row, first_row + R) and its first C columns; with one, x [N, columns] holds
// these rows (int64 [N], contiguous) of the whole [B, rows, columns], counted from its first.
struct RowPlace {
  int64_t first_row = 0, rows = 0, columns = 0;
  at::Tensor index = {};
};

// The first element of the whole that x [B, ...] begins with, or that its index counts rows from;
// and how many rows x holds of each group of the whole's rows.
int64_t first_element(const at::Tensor& x, const DropoutSite& site, const RowPlace& place);
int64_t rows_of_group(const at::Tensor& x, const RowPlace& place);

// x [B, ...] with each element dropped with probability p, the others scaled by 1 / (1 - p).
at::Tensor dropout(const at::Tensor& x, double p, DropoutStream& stream);

// residual + dropout(x, p), in one pass where the device has a loop or a kernel for it.
at::Tensor dropout_add(const at::Tensor& x, const at::Tensor& residual, double p,
                       DropoutStream& stream);
at::Tensor dropout_add(const at::Tensor& x, const at::Tensor& residual, double p,
                       DropoutStream& stream, const RowPlace& place);

// Dropout of a part of a tensor: each element has the mask that it has in the whole.
at::Tensor dropout_rows(const at::Tensor& x, double p, const DropoutSite& site,
                        const RowPlace& place);

// The same masks by elementary tensor operations: the definition, and the path of dtypes and
// devices without a loop or a kernel.
at::Tensor dropout_rows_composed(const at::Tensor& x, double p, const DropoutSite& site,
                                 const RowPlace& place);

// Stochastic depth: x [B, ...] with whole samples dropped with probability p, the others scaled by
// 1 / (1 - p).
at::Tensor drop_path(const at::Tensor& x, double p, DropoutStream& stream);

}  // namespace quench
