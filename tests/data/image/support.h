// What the tests of this room share: golden pictures, throw-away folders and files.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <span>
#include <string>

#include "base/error.h"
#include "base/log.h"
#include "data/image/decode.h"
#include "data/image/image.h"

namespace quench::testing_images {

inline std::string golden_path(const std::string& name) {
  return std::string(QUENCH_TESTS_DIR) + "/golden/image/" + name;
}

inline Image golden(const std::string& name) { return read_image(golden_path(name)); }

// The pixels as a key for sets (GCC 12 warns wrongly about ordered vectors of bytes).
inline std::string key_of(const Image& image) { return {image.rgb.begin(), image.rgb.end()}; }

class TempFolder {
 public:
  TempFolder() {
    static std::atomic<int> count{0};
    path_ =
        std::filesystem::temp_directory_path() / concat("quench-image-", getpid(), "-", count++);
    std::filesystem::create_directories(path_);
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string path() const { return path_.string(); }

  std::string write(const std::string& name, std::span<const uint8_t> bytes) const {
    const auto file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()),
               static_cast<std::streamsize>(bytes.size()));
    return file.string();
  }

  void copy(const std::string& from, const std::string& name) const {
    const auto file = path_ / name;
    std::filesystem::create_directories(file.parent_path());
    std::filesystem::copy_file(from, file);
  }

 private:
  std::filesystem::path path_;
};

// What `function` logs; `folder` gets a file for it.
template <class Function>
std::string logged(Function function, const TempFolder& folder) {
  const std::string path = folder.path() + "/log.txt";
  set_log_file(path, /*append=*/false);
  function();
  set_log_file({}, false);
  std::ifstream in(path);
  return {std::istreambuf_iterator<char>(in), {}};
}

// What `function` throws, or "" when it does not.
template <class Function>
std::string error_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

// Whether `text` holds every one of `parts`.
inline ::testing::AssertionResult mentions(const std::string& text,
                                           std::initializer_list<const char*> parts) {
  for (const char* part : parts) {
    if (text.find(part) == std::string::npos) {
      return ::testing::AssertionFailure()
             << '"' << text << "\" does not mention \"" << part << '"';
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace quench::testing_images
