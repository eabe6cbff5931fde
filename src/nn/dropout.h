// Dropout whose mask is a function of (seed, step, site, element): nothing to save for resuming,
// nothing that the number of threads can change. On CPUs the mask comes from a counter-based hash,
// vectorised and recomputed in the backward pass; on other devices from the device's own generator,
// seeded with the same key before each draw.
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

// Seeds the generator of a device that is not the CPU, for LibTorch's own dropout there.
void seed_device(at::Device device, uint64_t key);

// x with each element dropped with probability p, the others scaled by 1 / (1 - p).
at::Tensor dropout(const at::Tensor& x, double p, DropoutStream& stream);

// residual + dropout(x, p), fused on float32 CPU tensors.
at::Tensor dropout_add(const at::Tensor& x, const at::Tensor& residual, double p,
                       DropoutStream& stream);

// The mask of a CPU tensor: 0 or 1 / (1 - p), shape and dtype of `like`.
at::Tensor dropout_mask(const at::Tensor& like, double p, uint64_t key);

// Stochastic depth: x [B, ...] with whole samples dropped with probability p, the others scaled by
// 1 / (1 - p).
at::Tensor drop_path(const at::Tensor& x, double p, DropoutStream& stream);

}  // namespace quench
