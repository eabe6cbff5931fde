// Dropout whose mask is a function of (seed, step, site, element), on every device the same:
// nothing to save for resuming, nothing that the number of threads or a kernel's geometry can
// change. The mask comes from a counter-based hash and is formed again in the backward pass.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace quench {

// The random stream of one forward pass. Sites are numbered in the order in which the pass meets
// them.
class DropoutStream {
 public:
  DropoutStream() = default;  // evaluation: nothing is dropped
  DropoutStream(uint64_t seed, uint64_t step) : seed_(seed), step_(step), training_(true) {}

  bool training() const { return training_; }
  // The key of the next site.
  uint64_t next();

 private:
  uint64_t seed_ = 0, step_ = 0, site_ = 0;
  bool training_ = false;
};

// Element i of a tensor is kept iff dropout_hash(key, i) >= dropout_threshold(p): probability 1 - p
// within 2^-32.
inline uint32_t dropout_threshold(double p) { return static_cast<uint32_t>(p * 4294967296.0); }

inline __attribute__((always_inline)) uint32_t dropout_hash(uint64_t key, uint32_t element) {
  uint32_t x = element ^ static_cast<uint32_t>(key);
  x = (x ^ (x >> 16)) * 0x7feb352du + static_cast<uint32_t>(key >> 32);
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

// Elements are hashed in blocks of 2^32; block b of a tensor has this key.
uint64_t dropout_block_key(uint64_t key, uint64_t block);

// x with each element dropped with probability p, the others scaled by 1 / (1 - p).
at::Tensor dropout(const at::Tensor& x, double p, DropoutStream& stream);

// residual + dropout(x, p), in one pass where the device has a loop or a kernel for it.
at::Tensor dropout_add(const at::Tensor& x, const at::Tensor& residual, double p,
                       DropoutStream& stream);

// Where some rows lie in a tensor [..., rows, columns]: x [..., R, C] holds its rows
// [first_row, first_row + R) and its first C columns.
struct RowBlock {
  int64_t first_row = 0, rows = 0, columns = 0;
};

// Dropout of a part of a tensor: each element has the mask that it has in the whole.
at::Tensor dropout_rows(const at::Tensor& x, double p, uint64_t key, const RowBlock& place);

// The same masks by elementary tensor operations: the definition, and the path of dtypes and
// devices without a loop or a kernel.
at::Tensor dropout_rows_composed(const at::Tensor& x, double p, uint64_t key,
                                 const RowBlock& place);

// Stochastic depth: x [B, ...] with whole samples dropped with probability p, the others scaled by
// 1 / (1 - p).
at::Tensor drop_path(const at::Tensor& x, double p, DropoutStream& stream);

}  // namespace quench
