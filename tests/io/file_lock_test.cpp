#include "io/file_lock.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "io/atomic_file.h"
#include "temporary_folder.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

class FileLockTest : public TemporaryFolder {
 protected:
  const fs::path file_ = folder_ / "lock";
};

TEST_F(FileLockTest, OneHasItAtATime) {
  {
    const auto first = FileLock::try_take(file_);
    ASSERT_TRUE(first);
    EXPECT_FALSE(FileLock::try_take(file_));
    EXPECT_TRUE(lock_holder(file_).starts_with(concat("process ", ::getpid(), " on ")));
  }
  EXPECT_FALSE(fs::exists(file_));
  EXPECT_TRUE(FileLock::try_take(file_));
  EXPECT_EQ(lock_holder(file_), "another process");  // nobody by now
}

TEST_F(FileLockTest, MovesWithItsOwner) {
  std::optional<FileLock> last;
  {
    auto first = FileLock::try_take(file_);
    last.emplace(std::move(*first));
  }
  EXPECT_FALSE(FileLock::try_take(file_));
}

TEST_F(FileLockTest, AKilledHolderLocksNobodyOut) {
  int ready[2];
  ASSERT_EQ(::pipe(ready), 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto lock = FileLock::try_take(file_);
    static_cast<void>(::write(ready[1], "x", 1) == 1);
    ::pause();
  }
  char byte;
  ASSERT_EQ(::read(ready[0], &byte, 1), 1);
  EXPECT_FALSE(FileLock::try_take(file_));
  EXPECT_TRUE(lock_holder(file_).starts_with(concat("process ", child, " on ")));
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  EXPECT_TRUE(fs::exists(file_));
  EXPECT_TRUE(FileLock::try_take(file_));
}

TEST_F(FileLockTest, WaitsForItsHolder) {
  auto first = FileLock::try_take(file_);
  std::string told;
  std::thread waiting([&] {
    const FileLock second = FileLock::take(file_, [&](const std::string& holder) {
      told = holder;
      first.reset();
    });
    EXPECT_TRUE(fs::exists(file_));
  });
  waiting.join();
  EXPECT_TRUE(told.starts_with("process ")) << told;
}

TEST_F(FileLockTest, NamesWhatCannotBeLocked) {
  EXPECT_EQ(error_of([] { FileLock::try_take("/no/such/folder/lock"); }),
            "cannot write /no/such/folder/lock: No such file or directory");
}

}  // namespace
}  // namespace quench
