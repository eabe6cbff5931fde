#include "io/make_once.h"

#include "io/atomic_file.h"
#include "io/file_lock.h"
#include "tests/io/temporary_folder.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

class MakeOnce : public TemporaryFolder {
 protected:
  const fs::path path_ = folder_ / "new" / "set";
  int made_ = 0;

  void make() {
    make_once(
        path_, [&] { return fs::exists(path_); }, [](const std::string&) {},
        [&] {
          ++made_;
          EXPECT_FALSE(FileLock::try_take(path_.string() + ".lock"));
          write_file_atomically(path_, "x");
        });
  }
};

TEST_F(MakeOnce, MakesWhatIsNotThere) {
  make();
  make();
  EXPECT_EQ(made_, 1);
  EXPECT_FALSE(fs::exists(path_.string() + ".lock"));
}

TEST_F(MakeOnce, CleansUpBesideWhatIsThere) {
  make();
  write_file_atomically(path_.string() + ".lock", "");
  write_file_atomically(path_.string() + ".tmp-1-0", "half");
  make();
  EXPECT_EQ(std::distance(fs::directory_iterator(path_.parent_path()), {}), 1);
}

}  // namespace
}  // namespace quench
