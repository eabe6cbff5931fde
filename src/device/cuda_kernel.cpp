#include "device/cuda_kernel.h"

#include <ATen/DeviceAccelerator.h>
#include <dlfcn.h>

#include <mutex>
#include <vector>

#include "base/error.h"
#include "device/device.h"

namespace quench {
namespace {

// The few functions of NVRTC and of CUDA's driver interface that are needed. Both are stable C
// interfaces, found at run time: their headers belong to the toolkit. 0 is success in both.
struct Interface {
  int (*create_program)(void**, const char*, const char*, int, const char* const*,
                        const char* const*);
  int (*compile_program)(void*, int, const char* const*);
  int (*log_size)(void*, size_t*);
  int (*log)(void*, char*);
  int (*code_size)(void*, size_t*);
  int (*code)(void*, char*);
  int (*destroy_program)(void**);
  int (*current_context)(void**);
  int (*retain_primary_context)(void**, int);
  int (*set_context)(void*);
  int (*device_attribute)(int*, int, int);
  int (*load_module)(void**, const void*);
  int (*module_function)(void**, void*, const char*);
  int (*launch_kernel)(void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned,
                       void*, void**, void**);
};

const Interface* load_interface() {
  if (!has_cuda()) return nullptr;
  // LibTorch's own door to both libraries, which lie where only it knows.
  void* library = dlopen("libcaffe2_nvrtc.so", RTLD_NOW);
  if (!library) return nullptr;
  static Interface loaded;
  bool complete = true;
  const auto find = [&](auto& function, const char* name) {
    void* symbol = dlsym(library, name);
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(symbol);
    complete = complete && symbol;
  };
  find(loaded.create_program, "nvrtcCreateProgram");
  find(loaded.compile_program, "nvrtcCompileProgram");
  find(loaded.log_size, "nvrtcGetProgramLogSize");
  find(loaded.log, "nvrtcGetProgramLog");
  find(loaded.code_size, "nvrtcGetCUBINSize");
  find(loaded.code, "nvrtcGetCUBIN");
  find(loaded.destroy_program, "nvrtcDestroyProgram");
  find(loaded.current_context, "cuCtxGetCurrent");
  find(loaded.retain_primary_context, "cuDevicePrimaryCtxRetain");
  find(loaded.set_context, "cuCtxSetCurrent");
  find(loaded.device_attribute, "cuDeviceGetAttribute");
  find(loaded.load_module, "cuModuleLoadData");
  find(loaded.module_function, "cuModuleGetFunction");
  find(loaded.launch_kernel, "cuLaunchKernel");
  return complete ? &loaded : nullptr;
}

const Interface* cuda_interface() {
  static const Interface* const loaded = load_interface();
  return loaded;
}

// A thread that has not touched the device yet has no context.
void make_context_current(const Interface& cuda, int device) {
  void* context = nullptr;
  cuda.current_context(&context);
  if (context) return;
  check(cuda.retain_primary_context(&context, device) == 0 && cuda.set_context(context) == 0,
        "CUDA gives no context for device ", device);
}

// Machine code for the device.
std::vector<char> compile(const Interface& cuda, int device, const std::string& name,
                          const std::string& source) {
  constexpr int kMajor = 75, kMinor = 76;  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_…
  int major = 0, minor = 0;
  cuda.device_attribute(&major, kMajor, device);
  cuda.device_attribute(&minor, kMinor, device);
  const std::string architecture = concat("--gpu-architecture=sm_", major, minor);
  const char* options[] = {architecture.c_str(), "--std=c++17"};
  void* program = nullptr;
  check(cuda.create_program(&program, source.c_str(), name.c_str(), 0, nullptr, nullptr) == 0,
        "NVRTC takes no program");
  const int failed = cuda.compile_program(program, 2, options);
  size_t size = 0;
  if (failed) {
    cuda.log_size(program, &size);
    std::string log(size, '\0');
    cuda.log(program, log.data());
    fail("the kernel ", name, " does not compile for sm_", major, minor, ": ", log);
  }
  cuda.code_size(program, &size);
  std::vector<char> code(size);
  cuda.code(program, code.data());
  cuda.destroy_program(&program);
  return code;
}

}  // namespace

const char kCudaNumbers[] = R"(
typedef unsigned int u32;
typedef unsigned long long u64;
typedef unsigned short u16;

struct float32 {
  typedef float stored;
  static __device__ float load(float x) { return x; }
  static __device__ float store(float x) { return x; }
};
struct float16 {
  typedef u16 stored;
  static __device__ float load(u16 x) { float y; asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x)); return y; }
  static __device__ u16 store(float x) { u16 y; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x)); return y; }
};
struct bfloat16 {
  typedef u16 stored;
  static __device__ float load(u16 x) { return __uint_as_float((u32)x << 16); }
  static __device__ u16 store(float x) {
    u32 bits = __float_as_uint(x);
    if (x != x) return 0x7fc0;
    return (u16)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);  // to the nearest, ties to even
  }
};
)";

std::optional<std::string> cuda_number(at::ScalarType dtype) {
  switch (dtype) {
    case at::kFloat:
      return "float32";
    case at::kHalf:
      return "float16";
    case at::kBFloat16:
      return "bfloat16";
    default:
      return std::nullopt;
  }
}

bool can_compile_kernels() { return cuda_interface() != nullptr; }

void* CudaKernel::function_on(at::Device device) {
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  if (function_) return function_;
  const Interface& cuda = *cuda_interface();
  const std::vector<char> code = compile(cuda, device.index(), name_, source_);
  void* module = nullptr;
  const bool loaded = cuda.load_module(&module, code.data()) == 0 &&
                      cuda.module_function(&function_, module, name_.c_str()) == 0;
  check(loaded, "CUDA does not load the kernel ", name_);
  return function_;
}

CudaKernel& CudaKernels::get(const std::string& name, const std::string& definitions,
                             std::initializer_list<const char*> sources) {
  const std::lock_guard lock(mutex_);
  auto& found = kernels_[name + "\n" + definitions];
  if (!found) {
    std::string source = definitions;
    for (const char* part : sources) source += part;
    found = std::make_unique<CudaKernel>(name, source);
  }
  return *found;
}

void CudaKernel::launch(at::Device device, int64_t blocks, int64_t threads,
                        std::initializer_list<const void*> arguments, int64_t blocks_y) {
  check(can_compile_kernels(), "kernel ", name_, ": no CUDA device, or no NVRTC beside LibTorch");
  make_context_current(*cuda_interface(), device.index());
  std::vector<void*> pointers;
  for (const void* argument : arguments) pointers.push_back(const_cast<void*>(argument));
  void* stream = at::accelerator::getCurrentStream(device.index()).native_handle();
  const int failed = cuda_interface()->launch_kernel(
      function_on(device), static_cast<unsigned>(blocks), static_cast<unsigned>(blocks_y), 1,
      static_cast<unsigned>(threads), 1, 1, 0, stream, pointers.data(), nullptr);
  check(failed == 0, "the kernel ", name_, " was not started: CUDA error ", failed);
}

}  // namespace quench
