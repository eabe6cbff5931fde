#include <ATen/Config.h>
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <torch/version.h>

#include <cstdlib>
#include <sstream>
#include <thread>

#include "base/environment.h"
#include "base/error.h"
#include "cli/commands.h"
#include "device/cuda_kernel.h"
#include "device/device.h"
#include "nn/linear_map.h"

namespace quench {

namespace {

// What the environment says of it, ours or the user's (wait_policy.cpp).
std::string how_threads_wait() {
  std::string said;
  for (const char* name : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY"})
    if (const char* value = std::getenv(name))
      said += concat(said.empty() ? "" : " ", name, "=", value);
  return said.empty() ? "as OpenMP's library likes it" : said;
}

}  // namespace

void add_doctor(CLI::App& app) {
  const auto json = std::make_shared<bool>(false);
  CLI::App* command =
      app.add_subcommand("doctor", "machine, LibTorch, devices, threads, kernels in use");
  command->add_flag("--json", *json, "as JSON");
  command->callback([json] {
    const bool cuda = has_cuda();
    const Json facts = {
        {"quench", QUENCH_VERSION},
        {"libtorch", TORCH_VERSION},
        {"cpu_capability", at::get_cpu_capability()},
        {"cpu_cores", std::thread::hardware_concurrency()},
        {"threads", at::get_num_threads()},
        {"threads_wait", how_threads_wait()},
        {"mkl", at::globalContext().hasMKL()},
        {"mkldnn", at::globalContext().hasMKLDNN()},
        {"cuda", cuda ? Json(true) : Json(why_not_cuda())},
        {"device", cuda ? "cuda" : "cpu"},
        {"attention",
         cuda ? "softmax without dropout: LibTorch's fused kernel; otherwise softmax and "
                "clipped softmax: quench's kernels between LibTorch's products"
              : "float32: quench's fused kernel for softmax and clipped softmax; "
                "otherwise a block of queries at a time"},
        {"dropout", can_compile_kernels() ? "a kernel compiled at run time (NVRTC)"
                    : cuda                ? "tensor operations: LibTorch brings no NVRTC"
                                          : "float32: quench's loop; otherwise tensor operations"},
        {"linear", !cuda && linear_map_uses_onednn()
                       ? "training in float32: oneDNN; otherwise LibTorch's BLAS"
                       : "LibTorch's BLAS"},
        {"cache", cache_folder()},
    };
    if (*json) return write_output("", dump(facts, 2) + "\n");
    std::ostringstream text;
    for (const auto& [key, value] : facts.items())
      text << key << std::string(16 - key.size(), ' ')
           << (value.is_string() ? value.get<std::string>() : dump(value)) << "\n";
    write_output("", text.str());
  });
}

}  // namespace quench
