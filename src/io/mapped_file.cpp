#include "io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "base/error.h"

namespace quench {

MappedFile::MappedFile(const std::filesystem::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  struct stat status {};
  void* memory = MAP_FAILED;
  if (descriptor >= 0 && ::fstat(descriptor, &status) == 0) {
    size_ = static_cast<size_t>(status.st_size);
    if (S_ISDIR(status.st_mode)) {
      errno = EISDIR;
    } else if (!S_ISREG(status.st_mode)) {
      ::close(descriptor);
      fail("cannot read ", path.string(), ": it is no file but a pipe or a device");
    } else if (size_ == 0) {
      memory = nullptr;
    } else {
      memory = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE, descriptor, 0);
    }
  }
  const int reason = errno;
  if (descriptor >= 0) ::close(descriptor);
  check(memory != MAP_FAILED, "cannot read ", path.string(), ": ",
        std::generic_category().message(reason));
  data_ = static_cast<char*>(memory);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(data_, size_);
}

}  // namespace quench
