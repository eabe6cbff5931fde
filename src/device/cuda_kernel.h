// A kernel in CUDA C++, compiled when it is first launched, by the run-time compiler (NVRTC) that a
// CUDA build of LibTorch brings along: what LibTorch's own operators would need many passes over
// memory for. No CUDA toolkit is needed to build or to run.
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

namespace quench {

class CudaKernel {
 public:
  // `source` defines `extern "C" __global__ void <name>(...)`. It may include no headers.
  CudaKernel(std::string name, std::string source)
      : name_(std::move(name)), source_(std::move(source)) {}
  CudaKernel(const CudaKernel&) = delete;
  CudaKernel& operator=(const CudaKernel&) = delete;

  // Starts it on the current stream of `device` with `blocks` times `blocks_y` blocks of `threads`
  // threads; `arguments` point to the kernel's arguments, in order. Throws Error with the
  // compiler's log.
  void launch(at::Device device, int64_t blocks, int64_t threads,
              std::initializer_list<const void*> arguments, int64_t blocks_y = 1);

 private:
  void* function_on(at::Device device);

  std::string name_, source_;
  void* function_ = nullptr;  // of the one device that a process computes on
};

// One kernel a set of definitions, made when it is first asked for.
class CudaKernels {
 public:
  // The kernel `name` of the sources, one behind the other, below the #define lines `definitions`.
  CudaKernel& get(const std::string& name, const std::string& definitions,
                  std::initializer_list<const char*> sources);

 private:
  std::mutex mutex_;
  std::map<std::string, std::unique_ptr<CudaKernel>> kernels_;  // by name and definitions
};

// Source: u16, u32 and u64; and float32, float16 and bfloat16, each with the type `stored` in
// memory, and load() and store() from and to float, to the nearest.
extern const char kCudaNumbers[];
// Which of these a dtype is; none for any other.
std::optional<std::string> cuda_number(at::ScalarType dtype);

// Whether kernels can be compiled here: there is a CUDA device, and LibTorch brings NVRTC.
bool can_compile_kernels();

}  // namespace quench
