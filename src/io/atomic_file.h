// Files appear whole or not at all: bytes go to a temporary name beside the final one, every write
// is checked (a full disk shows at any of them), the data is forced to the disk, and only then is
// it renamed. A reader, or a crash at any moment, meets the old content or the new, never a mix.
//
// Temporaries are called `<name>.tmp-<pid>-<n>`, and their writer holds a lock on them. Only a
// killed process leaves one behind; the next one that writes the same name, or remove_abandoned(),
// deletes it.
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

namespace quench {

// A file that is written piece by piece. Every member throws Error naming the final path and the
// system's reason. What is not a regular file (/dev/stdout, a pipe) is written in place; of a
// symbolic link, what it names is replaced.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path path);
  ~AtomicFile();  // removes the temporary unless committed
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, size_t size);
  void commit();

 private:
  void close_descriptor();

  std::filesystem::path path_;       // as given
  std::filesystem::path target_;     // what it names
  std::filesystem::path temporary_;  // empty when written in place, and once committed
  int descriptor_ = -1;
};

// A folder of files that appear together. Write into path(), then commit(), which forces every file
// to the disk and gives the folder its final name; a folder that had the name is replaced.
class AtomicFolder {
 public:
  explicit AtomicFolder(std::filesystem::path final_path);  // its parent folders are created
  ~AtomicFolder();                                          // removes path() unless committed
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;

  // One that a later process may go on with: path() is `<name>.partial`, new or as an earlier
  // process left it, by being killed or by keep(). Only one process at a time may have it.
  static AtomicFolder resumable(std::filesystem::path final_path);
  // From now on path() stays if it is not committed.
  void keep() { kept_ = true; }

  const std::filesystem::path& path() const { return temporary_; }
  // `before_naming` is called when all is on the disk and the folder lacks only its name.
  void commit(const std::function<void()>& before_naming = {});

 private:
  struct Resumable {};
  AtomicFolder(std::filesystem::path final_path, Resumable);

  std::filesystem::path final_;
  std::filesystem::path temporary_;
  int descriptor_ = -1;  // of the temporary, for its lock
  bool kept_ = false;
};

// Deletes a folder whole: killed on the way, it leaves a temporary. Throws Error.
void remove_folder(const std::filesystem::path& path);

// Deletes the temporaries in `folder` that no living process owns. Those that cannot be deleted
// stay.
void remove_abandoned(const std::filesystem::path& folder);

// Both throw Error naming the path and the system's reason.
void write_file_atomically(const std::filesystem::path& path, std::string_view content);
std::string read_file(const std::filesystem::path& path);

}  // namespace quench
