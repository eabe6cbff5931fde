// A file that grows by whole records while it may be read: curves and event files.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace quench {

class AppendedFile {
 public:
  // Continues behind what the file holds, or makes it. Throws Error naming it.
  explicit AppendedFile(std::filesystem::path path);
  ~AppendedFile();
  AppendedFile(const AppendedFile&) = delete;
  AppendedFile& operator=(const AppendedFile&) = delete;

  void add(std::string_view record) { pending_ += record; }

  // Hands what was added to the system. Throws Error where that fails, as on a full disk: the file
  // then holds none of it, and the next call tries again.
  void flush();

 private:
  std::filesystem::path path_;
  int descriptor_;
  std::string pending_;
};

}  // namespace quench
