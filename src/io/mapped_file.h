// A file as memory. Pages are read when touched; writing to them changes this process's copy only.
#pragma once

#include <cstddef>
#include <filesystem>

namespace quench {

class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);  // throws Error
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  char* data() const { return data_; }  // null when the file is empty
  size_t size() const { return size_; }

 private:
  char* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace quench
