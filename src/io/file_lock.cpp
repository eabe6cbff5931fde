#include "io/file_lock.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <system_error>
#include <thread>
#include <utility>

#include "base/environment.h"
#include "base/error.h"
#include "base/signals.h"
#include "io/atomic_file.h"

namespace quench {

namespace fs = std::filesystem;

LockResult try_lock(int descriptor) {
  if (::flock(descriptor, LOCK_EX | LOCK_NB) == 0) return LockResult::kTaken;
  return errno == EWOULDBLOCK ? LockResult::kBusy : LockResult::kUnsupported;
}

bool is_at(int descriptor, const fs::path& path) {
  struct stat opened {
  }, named{};
  return ::fstat(descriptor, &opened) == 0 && ::stat(path.c_str(), &named) == 0 &&
         opened.st_dev == named.st_dev && opened.st_ino == named.st_ino;
}

FileLock::FileLock(fs::path path, int descriptor)
    : path_(std::move(path)), descriptor_(descriptor) {}

FileLock::FileLock(FileLock&& other) noexcept
    : path_(std::move(other.path_)), descriptor_(std::exchange(other.descriptor_, -1)) {}

FileLock::~FileLock() {
  if (descriptor_ < 0) return;
  ::unlink(path_.c_str());  // while it is held: where locks work, nobody else's has the name
  ::close(descriptor_);
}

std::optional<FileLock> FileLock::try_take(const fs::path& path) {
  for (;;) {
    const int descriptor = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    check(descriptor >= 0, "cannot write ", path.string(), ": ",
          std::generic_category().message(errno));
    if (try_lock(descriptor) == LockResult::kBusy) {
      ::close(descriptor);
      return std::nullopt;
    }
    if (!is_at(descriptor, path)) {  // its holder has removed it in between
      ::close(descriptor);
      continue;
    }
    const std::string holder = concat("process ", ::getpid(), " on ", host_name());
    const bool written =
        ::ftruncate(descriptor, 0) == 0 && ::write(descriptor, holder.data(), holder.size()) > 0;
    static_cast<void>(written);  // on a full disk the lock holds without its holder's name
    return FileLock(path, descriptor);
  }
}

FileLock FileLock::take(const fs::path& path,
                        const std::function<void(const std::string&)>& on_wait) {
  for (bool told = false;; told = true) {
    if (std::optional<FileLock> lock = try_take(path)) return std::move(*lock);
    if (!told) on_wait(lock_holder(path));
    stop_if_signalled();
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
}

std::string lock_holder(const fs::path& path) {
  std::string holder;
  try {
    holder = read_file(path);
  } catch (const Error&) {
    // It has been let go in between.
  }
  return holder.empty() ? "another process" : holder;
}

}  // namespace quench
