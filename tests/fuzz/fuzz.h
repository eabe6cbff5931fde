// What the harnesses share: an input as files of a folder in memory, and a call that may only throw
// Error.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/log.h"

namespace quench::fuzz {

inline std::string_view text(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

// A folder of this process in memory.
inline const std::filesystem::path& folder() {
  static const std::filesystem::path path = [] {
    set_log_level(LogLevel::kError);
    const std::filesystem::path made = concat("/dev/shm/quench-fuzz-", ::getpid());
    std::filesystem::create_directories(made);
    return made;
  }();
  return path;
}

inline std::string write(const std::filesystem::path& file, std::string_view content) {
  std::ofstream(file, std::ios::binary | std::ios::trunc) << content;
  return file;
}
inline std::string write(const char* name, std::string_view content) {
  return write(folder() / name, content);
}

// The part before the first NUL, and the rest.
inline std::pair<std::string_view, std::string_view> halves(std::string_view input) {
  const size_t end = std::min(input.find('\0'), input.size());
  return {input.substr(0, end), input.substr(std::min(end + 1, input.size()))};
}

// Anything else that is thrown ends the process: a finding. Of the file system's own errors main()
// makes a sentence.
template <class Call>
int only_errors(Call call) {
  try {
    call();
  } catch (const Error&) {
  } catch (const std::filesystem::filesystem_error&) {
  }
  return 0;
}

}  // namespace quench::fuzz
