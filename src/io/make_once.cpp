#include "io/make_once.h"

#include "io/atomic_file.h"
#include "io/file_lock.h"

namespace quench {

namespace fs = std::filesystem;

void make_once(const fs::path& path, const std::function<bool()>& find,
               const std::function<void(const std::string&)>& on_wait,
               const std::function<void()>& make) {
  const fs::path lock_file = path.string() + ".lock";
  if (find()) {
    remove_abandoned(path.parent_path());
    if (fs::exists(lock_file)) FileLock::try_take(lock_file);  // letting go deletes it
    return;
  }
  if (path.has_parent_path()) fs::create_directories(path.parent_path());
  const FileLock lock = FileLock::take(lock_file, on_wait);
  remove_abandoned(path.parent_path());
  if (!find()) make();
}

}  // namespace quench
