#include "io/appended_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "base/error.h"

namespace quench {
namespace {

[[noreturn]] void fail_to_write(const std::filesystem::path& path, int reason) {
  fail("cannot write ", path.string(), ": ", std::generic_category().message(reason));
}

// 0, or errno.
int write_all(int descriptor, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(descriptor, bytes.data(), bytes.size());
    if (written < 0 && errno != EINTR) return errno;
    if (written > 0) bytes.remove_prefix(static_cast<size_t>(written));
  }
  return 0;
}

}  // namespace

AppendedFile::AppendedFile(std::filesystem::path path)
    : path_(std::move(path)),
      descriptor_(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) fail_to_write(path_, errno);
}

AppendedFile::~AppendedFile() { ::close(descriptor_); }

void AppendedFile::flush() {
  const off_t end = ::lseek(descriptor_, 0, SEEK_END);
  const int reason = write_all(descriptor_, pending_);
  if (reason == 0) return pending_.clear();
  // A part of it may be there; where not even that can be undone, the reader skips it.
  [[maybe_unused]] const int ignored = ::ftruncate(descriptor_, end);
  fail_to_write(path_, reason);
}

}  // namespace quench
