#include "device/device.h"

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <dlfcn.h>

#include <cstdlib>

#include "base/error.h"

namespace quench {
namespace {

// Empty where LibTorch's CUDA half is loaded, else why not.
const std::string& cuda_failure() {
  static const std::string failure = [] {
    // Its static initializers register kernels and hooks. Not linked: a CUDA build of LibTorch then
    // runs on machines without CUDA's libraries.
    setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8", /*overwrite=*/0);  // cuBLAS: the same sums again
    if (dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL)) return std::string();
    const std::string why = dlerror();
    return why.starts_with("libtorch_cuda.so:") ? "this LibTorch is built without CUDA" : why;
  }();
  return failure;
}

// When the program starts: LibTorch's CPU half settles whether there is CUDA the first time it is
// asked, even if only to copy a tensor.
[[maybe_unused]] const bool loaded = cuda_failure().empty();

// What a run computes, it computes again; and fp32 means fp32.
void use_repeatable_kernels() {
  at::Context& context = at::globalContext();
  context.setAllowTF32CuDNN(false);  // products are so by default
  context.setSDPUseCuDNN(false);     // does not repeat its gradients
  // Where LibTorch has no such kernel, it warns.
  context.setDeterministicAlgorithms(true, /*warn_only=*/true);
  context.setDeterministicFillUninitializedMemory(false);
}

}  // namespace

bool has_cuda() { return cuda_failure().empty() && at::globalContext().hasCUDA(); }

std::string why_not_cuda() {
  return cuda_failure().empty() ? "LibTorch finds no CUDA device" : cuda_failure();
}

at::Device choose_device(const std::string& name) {
  if (name == "cpu") return at::kCPU;
  if (has_cuda()) {
    use_repeatable_kernels();
    return at::Device(at::kCUDA, 0);
  }
  if (name == "cuda") fail_usage("device: cuda was asked for, but ", why_not_cuda());
  return at::kCPU;
}

void synchronize(at::Device device) {
  if (!device.is_cpu()) at::accelerator::synchronizeDevice(device.index());
}

int64_t peak_memory(at::Device device) {
  constexpr auto kAll = static_cast<size_t>(at::CachingAllocator::StatType::AGGREGATE);
  return at::accelerator::getDeviceStats(device.index()).allocated_bytes[kAll].peak;
}

void reset_peak_memory(at::Device device) { at::accelerator::resetPeakStats(device.index()); }

}  // namespace quench
