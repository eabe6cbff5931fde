// The device that computes, and what is asked of it as a whole. LibTorch's CUDA half is loaded
// where it can be, when the program starts: one program runs with and without a GPU, and says what
// is missing.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace quench {

// `name` is auto (CUDA where there is one), cpu or cuda. Throws UsageError if cuda is asked for and
// cannot be had, with the reason.
at::Device choose_device(const std::string& name);

// Whether LibTorch finds a CUDA device; else `why_not_cuda()` is the reason in a sentence.
bool has_cuda();
std::string why_not_cuda();

// Waits for all work that was given to the device; on a CPU there is none.
void synchronize(at::Device device);

// Bytes that LibTorch's allocator held at once on a device that is not the CPU, since the program's
// start or reset_peak_memory().
int64_t peak_memory(at::Device device);
void reset_peak_memory(at::Device device);

}  // namespace quench
