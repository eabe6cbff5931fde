// A lock between processes: a file on which this process holds a lock of the system (flock) until
// it lets go or ends, however it ends. A file that a killed process left behind locks nobody out.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

namespace quench {

class FileLock {
 public:
  // Takes the lock on `path`, a file of its own whose folder exists. std::nullopt while another
  // FileLock has it. Throws Error where the file cannot be written.
  static std::optional<FileLock> try_take(const std::filesystem::path& path);

  // Waits for it; `on_wait` is told once who holds it. Throws Interrupted (base/signals.h).
  static FileLock take(const std::filesystem::path& path,
                       const std::function<void(const std::string& holder)>& on_wait);

  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&&) = delete;
  ~FileLock();  // removes the file

 private:
  FileLock(std::filesystem::path path, int descriptor);

  std::filesystem::path path_;
  int descriptor_;  // -1: moved from
};

// Who holds the lock on `path`, for messages: "process 1234 on host".
std::string lock_holder(const std::filesystem::path& path);

// What a FileLock, and the temporaries of atomic_file.h, are made of: a lock on an open file or
// folder, which goes with its last descriptor.
enum class LockResult { kTaken, kBusy, kUnsupported };  // unsupported: some network file systems
LockResult try_lock(int descriptor);
// Whether `path` still is the file or folder that was opened as `descriptor`.
bool is_at(int descriptor, const std::filesystem::path& path);

}  // namespace quench
