#include "base/environment.h"

#include <dlfcn.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>

#include "base/error.h"

namespace quench {
namespace {

std::string libtorch_include() {
  // at::globalContext(), which libtorch_cpu.so alone defines. By name, since this room is compiled
  // without LibTorch's headers and linked into programs without LibTorch.
  void* symbol = dlsym(RTLD_DEFAULT, "_ZN2at13globalContextEv");
  Dl_info info{};
  check(symbol && dladdr(symbol, &info), "cannot find the folder that LibTorch was loaded from");
  return (std::filesystem::canonical(info.dli_fname).parent_path().parent_path() / "include")
      .string();
}

}  // namespace

std::string expand_variables(const std::string& text) {
  std::string out;
  size_t at = 0;
  for (size_t open; (open = text.find("${", at)) != std::string::npos;) {
    const size_t close = text.find('}', open);
    if (close == std::string::npos) fail_usage("'", text, "': '${' without a closing '}'");
    const std::string name = text.substr(open + 2, close - open - 2);
    out += text.substr(at, open - at);
    if (name == "LIBTORCH_INCLUDE") {
      out += libtorch_include();
    } else if (const char* value = std::getenv(name.c_str())) {
      out += value;
    } else {
      fail_usage("'", text, "': the environment variable ", name, " is not set");
    }
    at = close + 1;
  }
  return out + text.substr(at);
}

std::string cache_folder() {
  if (const char* cache = std::getenv("QUENCH_CACHE")) return cache;
  if (const char* cache = std::getenv("XDG_CACHE_HOME")) return std::string(cache) + "/quench";
  const char* home = std::getenv("HOME");
  return std::string(home ? home : ".") + "/.cache/quench";
}

uint64_t available_memory() {
  uint64_t available = std::numeric_limits<uint64_t>::max(), limit = 0, used = 0;
  std::ifstream machine("/proc/meminfo");
  for (std::string key; machine >> key;)
    if (uint64_t kilobytes = 0; key == "MemAvailable:" && machine >> kilobytes)
      available = kilobytes << 10;
  std::ifstream most("/sys/fs/cgroup/memory.max"), now("/sys/fs/cgroup/memory.current");
  if (most >> limit && now >> used) available = std::min(available, limit - std::min(limit, used));
  return available;
}

std::string host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  return name[0] ? name : "localhost";
}

}  // namespace quench
