#include "io/atomic_file.h"

#include <fcntl.h>
#include <stdio.h>  // renameat2
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "base/error.h"
#include "io/file_lock.h"

namespace fs = std::filesystem;

namespace quench {
namespace {

[[noreturn]] void fail_with_errno(const char* verb, const fs::path& path) {
  const int reason = errno;
  fail("cannot ", verb, " ", path.string(), ": ", std::generic_category().message(reason));
}

// The folder that holds `path`, as a path that can be opened.
fs::path parent_folder(const fs::path& path) {
  return path.has_parent_path() ? path.parent_path() : fs::path(".");
}

fs::path without_trailing_slash(fs::path path) {
  return path.has_filename() ? path : path.parent_path();
}

// Closes it; keeps errno.
class Descriptor {
 public:
  explicit Descriptor(int descriptor) : descriptor_(descriptor) {}
  ~Descriptor() {
    const int reason = errno;
    if (descriptor_ >= 0) ::close(descriptor_);
    errno = reason;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  operator int() const { return descriptor_; }

 private:
  int descriptor_;
};

// Whether `path` names a file that a process has open, as /dev/stdout does.
bool is_open_file(const fs::path& path) {
  std::error_code unknown;
  const fs::path folder = fs::canonical(parent_folder(path), unknown);
  return folder.string().starts_with("/proc/");
}

// What `path` names if it is a symbolic link: that is written, and the link stays.
fs::path behind_links(fs::path path) {
  constexpr int kMost = 40;  // as the system's
  std::error_code none;
  for (int i = 0; i < kMost && fs::is_symlink(path, none) && !is_open_file(path); ++i)
    path = parent_folder(path) / fs::read_symlink(path, none);
  return path;
}

constexpr std::string_view kMark = ".tmp-";

// `name` without what makes it that of a temporary; empty if it is none.
std::string_view final_name(std::string_view name) {
  const size_t mark = name.rfind(kMark);
  if (mark == name.npos || mark == 0) return {};
  const std::string_view rest = name.substr(mark + kMark.size());
  const size_t dash = rest.find('-');
  if (dash == 0 || dash == rest.npos || dash + 1 == rest.size()) return {};
  const bool numbers =
      rest.find_first_not_of("0123456789-") == rest.npos && rest.find('-', dash + 1) == rest.npos;
  return numbers ? name.substr(0, mark) : std::string_view();
}

// Deletes the temporaries in `folder` for which `chosen` holds and whose writer is gone.
template <class Chosen>
void remove_temporaries(const fs::path& folder, Chosen chosen) {
  std::error_code unreadable;
  std::vector<fs::path> found;
  for (const auto& entry : fs::directory_iterator(folder, unreadable)) {
    const std::string name = entry.path().filename().string();
    const std::string_view of = final_name(name);
    if (!of.empty() && chosen(of)) found.push_back(entry.path());
  }
  for (const fs::path& path : found) {
    const Descriptor descriptor(
        ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
    std::error_code ignored;
    if (descriptor >= 0 && try_lock(descriptor) == LockResult::kTaken && is_at(descriptor, path))
      fs::remove_all(path, ignored);
  }
}

// A new, locked temporary for `path`. `create(name)` makes and opens it, or returns a negative
// number and sets errno as open() does.
struct Temporary {
  fs::path path;
  int descriptor;
};
template <class Create>
Temporary create_temporary(const fs::path& path, Create create) {
  const std::string own = path.filename().string();
  remove_temporaries(parent_folder(path), [&](std::string_view of) { return of == own; });
  for (int n = 0;; ++n) {
    const fs::path candidate = path.string() + concat(kMark, ::getpid(), "-", n);
    const int descriptor = create(candidate.c_str());
    if (descriptor < 0 && errno == EEXIST) continue;
    if (descriptor < 0) fail_with_errno("write", path);
    if (try_lock(descriptor) != LockResult::kBusy && is_at(descriptor, candidate))
      return {candidate, descriptor};
    ::close(descriptor);  // another process took it for abandoned before it was locked
  }
}

int create_folder(const char* name) {
  if (::mkdir(name, 0777) != 0) return -1;
  const int descriptor = ::open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0 && errno == ENOENT) errno = EEXIST;  // taken for abandoned already
  return descriptor;
}

void create_folders(const fs::path& path) {
  std::error_code reason;
  fs::create_directories(path, reason);
  check(!reason, "cannot create ", path.string(), ": ", reason.message());
}

void sync_to_disk(const fs::path& path, const fs::path& named) {
  const Descriptor descriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (descriptor < 0) fail_with_errno("write", named);
  const bool synced = ::fsync(descriptor) == 0;
  // Some file systems have nothing to sync for a folder and say EINVAL.
  if (!synced && errno != EINVAL) fail_with_errno("write", named);
}

// Gives the folder `from` the name of the folder `to`, which exists. The old one is left at `from`.
void replace_folder(const fs::path& from, const fs::path& to) {
  if (::renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_EXCHANGE) == 0) return;
  // Not every file system (NFS) can exchange two names. There, a crash between these two steps
  // leaves the new folder, complete, under its temporary name.
  std::error_code reason;
  fs::remove_all(to, reason);
  check(!reason, "cannot replace ", to.string(), ": ", reason.message());
  if (::rename(from.c_str(), to.c_str()) != 0) fail_with_errno("replace", to);
}

}  // namespace

AtomicFile::AtomicFile(fs::path path) : path_(std::move(path)), target_(behind_links(path_)) {
  std::error_code ignored;
  const fs::file_status status = fs::status(target_, ignored);
  if (fs::is_directory(status)) fail("cannot write ", path_.string(), ": it is a folder");
  if (is_open_file(target_) || (fs::exists(status) && !fs::is_regular_file(status))) {
    descriptor_ = ::open(target_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (descriptor_ < 0) fail_with_errno("write", path_);
    return;
  }
  Temporary temporary = create_temporary(target_, [](const char* name) {
    return ::open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  });
  temporary_ = std::move(temporary.path);
  descriptor_ = temporary.descriptor;
}

AtomicFile::~AtomicFile() {
  if (descriptor_ >= 0) ::close(descriptor_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::write(const void* data, size_t size) {
  const char* next = static_cast<const char*>(data);
  while (size > 0) {
    const ssize_t written = ::write(descriptor_, next, size);
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_with_errno("write", path_);
    next += written;
    size -= static_cast<size_t>(written);
  }
}

void AtomicFile::close_descriptor() {
  // Network file systems report a full disk or a spent quota only here.
  if (::close(std::exchange(descriptor_, -1)) != 0) fail_with_errno("write", path_);
}

void AtomicFile::commit() {
  if (temporary_.empty()) return close_descriptor();
  if (::fsync(descriptor_) != 0) fail_with_errno("write", path_);
  const Descriptor lock(::fcntl(descriptor_, F_DUPFD_CLOEXEC, 0));  // until it has its name
  close_descriptor();
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail_with_errno("write", path_);
  temporary_.clear();
  sync_to_disk(parent_folder(target_), path_);
}

AtomicFolder::AtomicFolder(fs::path final_path)
    : final_(without_trailing_slash(std::move(final_path))) {
  create_folders(parent_folder(final_));
  Temporary temporary = create_temporary(final_, create_folder);
  temporary_ = std::move(temporary.path);
  descriptor_ = temporary.descriptor;
}

AtomicFolder::AtomicFolder(fs::path final_path, Resumable)
    : final_(without_trailing_slash(std::move(final_path))),
      temporary_(final_.string() + ".partial") {
  create_folders(temporary_);
}

AtomicFolder AtomicFolder::resumable(fs::path final_path) {
  return {std::move(final_path), Resumable{}};
}

AtomicFolder::~AtomicFolder() {
  std::error_code ignored;
  if (!temporary_.empty() && !kept_) fs::remove_all(temporary_, ignored);
  if (descriptor_ >= 0) ::close(descriptor_);
}

void AtomicFolder::commit(const std::function<void()>& before_naming) {
  for (const auto& entry : fs::recursive_directory_iterator(temporary_)) {
    sync_to_disk(entry.path(), final_);
  }
  sync_to_disk(temporary_, final_);
  if (before_naming) before_naming();
  if (::rename(temporary_.c_str(), final_.c_str()) == 0) {
    temporary_.clear();
  } else if (errno == ENOTEMPTY || errno == EEXIST) {
    replace_folder(temporary_, final_);
    kept_ = false;  // the destructor removes the old one
  } else {
    fail_with_errno("write", final_);
  }
  sync_to_disk(parent_folder(final_), final_);
}

void remove_folder(const fs::path& path) {
  const Temporary doomed = create_temporary(path, create_folder);
  const Descriptor lock(doomed.descriptor);
  const bool renamed = ::rename(path.c_str(), doomed.path.c_str()) == 0;
  const int why = errno;
  std::error_code reason;
  fs::remove_all(doomed.path, reason);
  errno = why;
  if (!renamed) fail_with_errno("delete", path);
  check(!reason, "cannot delete ", path.string(), ": ", reason.message());
}

void remove_abandoned(const fs::path& folder) {
  remove_temporaries(folder, [](std::string_view) { return true; });
}

void write_file_atomically(const fs::path& path, std::string_view content) {
  AtomicFile file(path);
  file.write(content.data(), content.size());
  file.commit();
}

std::string read_file(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor < 0) fail_with_errno("read", path);
  std::string content;
  char buffer[1 << 16];
  ssize_t count = 0;
  do {
    count = ::read(descriptor, buffer, sizeof buffer);
    if (count > 0) content.append(buffer, static_cast<size_t>(count));
  } while (count > 0 || (count < 0 && errno == EINTR));
  const int reason = errno;
  ::close(descriptor);
  errno = reason;
  if (count < 0) fail_with_errno("read", path);
  return content;
}

}  // namespace quench
