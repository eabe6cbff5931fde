#include "io/atomic_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <functional>
#include <iterator>

#include "temporary_folder.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

size_t entries_in(const fs::path& folder) {
  return static_cast<size_t>(
      std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

class AtomicFileTest : public TemporaryFolder {
 protected:
  const fs::path file_ = folder_ / "results.json";
};

using AtomicFolderTest = AtomicFileTest;

TEST_F(AtomicFileTest, ReplacesTheOldContentAndLeavesNothingElse) {
  write_file_atomically(file_, "old and longer");
  const std::string content("new\0\n", 5);
  write_file_atomically(file_, content);
  EXPECT_EQ(read_file(file_), content);
  EXPECT_EQ(entries_in(folder_), 1u);
}

TEST_F(AtomicFileTest, IsInvisibleUntilCommitted) {
  write_file_atomically(file_, "old");
  {
    AtomicFile file(file_);
    file.write("ne", 2);
    file.write("w", 1);
    EXPECT_EQ(read_file(file_), "old");
    file.commit();
    EXPECT_EQ(read_file(file_), "new");
  }
  EXPECT_EQ(read_file(file_), "new");
}

TEST_F(AtomicFileTest, GivesUpWithoutATrace) {
  { AtomicFile(file_).write("half", 4); }
  EXPECT_EQ(entries_in(folder_), 0u);
}

TEST_F(AtomicFileTest, HasTheModeOfAnyNewFile) {
  const mode_t mask = ::umask(027);
  write_file_atomically(file_, "");
  ::umask(mask);
  EXPECT_EQ(fs::status(file_).permissions(), fs::perms{0640});
}

TEST_F(AtomicFileTest, WritersOfTheSameFileDoNotMix) {
  AtomicFile first(file_);
  AtomicFile second(file_);
  first.write("first", 5);
  second.write("second", 6);
  second.commit();
  EXPECT_EQ(read_file(file_), "second");
  first.commit();
  EXPECT_EQ(read_file(file_), "first");
}

TEST_F(AtomicFileTest, NamesTheFileAndTheReason) {
  EXPECT_EQ(error_of([] { write_file_atomically("/no/such/folder/a.json", ""); }),
            "cannot write /no/such/folder/a.json: No such file or directory");
  EXPECT_EQ(error_of([&] { write_file_atomically(folder_, ""); }),
            "cannot write " + folder_.string() + ": it is a folder");
  EXPECT_EQ(error_of([] { read_file("/no/such/file"); }),
            "cannot read /no/such/file: No such file or directory");
  EXPECT_EQ(error_of([&] { read_file(folder_); }),
            "cannot read " + folder_.string() + ": Is a directory");
}

// Through links: were the devices themselves named, a broken AtomicFile run by root would replace
// /dev/null by a file, for the whole machine.
TEST_F(AtomicFileTest, WritesDevicesInPlace) {
  const fs::path null = folder_ / "null";
  const fs::path full = folder_ / "full";
  fs::create_symlink("/dev/null", null);
  fs::create_symlink("/dev/full", full);
  write_file_atomically(null, "gone");
  EXPECT_TRUE(fs::is_symlink(null));
  EXPECT_EQ(error_of([&] { write_file_atomically(full, "data"); }),
            "cannot write " + full.string() + ": No space left on device");
  EXPECT_TRUE(fs::is_symlink(full));
}

TEST_F(AtomicFileTest, FileTooLargeKeepsTheOldContent) {
  write_file_atomically(file_, "old");
  rlimit limit{};
  ::getrlimit(RLIMIT_FSIZE, &limit);
  const rlimit small{10000, limit.rlim_max};
  const auto handler = std::signal(SIGXFSZ, SIG_IGN);
  ::setrlimit(RLIMIT_FSIZE, &small);
  const std::string message =
      error_of([&] { write_file_atomically(file_, std::string(20000, 'x')); });
  ::setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, handler);
  EXPECT_EQ(message, "cannot write " + file_.string() + ": File too large");
  EXPECT_EQ(read_file(file_), "old");
  EXPECT_EQ(entries_in(folder_), 1u);
}

class FullDisk : public AtomicFileTest {
 protected:
  void SetUp() override {
    if (!disk_.mounted()) GTEST_SKIP() << "a small file system can be mounted only by root";
  }

  const SmallDisk disk_{folder_};
  const std::string too_much_ = std::string(100'000, 'x');
};

TEST_F(FullDisk, KeepsTheOldFileAndNamesIt) {
  write_file_atomically(file_, "old");
  EXPECT_EQ(error_of([&] { write_file_atomically(file_, too_much_); }),
            "cannot write " + file_.string() + ": No space left on device");
  EXPECT_EQ(read_file(file_), "old");
  EXPECT_EQ(entries_in(folder_), 1u);
}

TEST_F(FullDisk, LeavesNoNewFile) {
  EXPECT_NE(error_of([&] { write_file_atomically(file_, too_much_); }), "no error");
  EXPECT_EQ(entries_in(folder_), 0u);
}

TEST_F(FullDisk, KeepsTheOldFolder) {
  const fs::path final_path = folder_ / "step-00000001";
  {
    AtomicFolder folder(final_path);
    write_file_atomically(folder.path() / "state.json", "old");
    folder.commit();
  }
  EXPECT_NE(error_of([&] {
              AtomicFolder folder(final_path);
              write_file_atomically(folder.path() / "state.json", "new");
              write_file_atomically(folder.path() / "model.safetensors", too_much_);
              folder.commit();
            }),
            "no error");
  EXPECT_EQ(read_file(final_path / "state.json"), "old");
  EXPECT_EQ(entries_in(folder_), 1u);
}

TEST_F(AtomicFolderTest, AppearsWholeUnderItsName) {
  const fs::path final_path = folder_ / "checkpoints" / "step-00000001";
  AtomicFolder folder(final_path);
  write_file_atomically(folder.path() / "state.json", "{}");
  fs::create_directory(folder.path() / "tokenizer");
  write_file_atomically(folder.path() / "tokenizer" / "vocab.txt", "a");
  EXPECT_FALSE(fs::exists(final_path));
  folder.commit();
  EXPECT_EQ(read_file(final_path / "state.json"), "{}");
  EXPECT_EQ(read_file(final_path / "tokenizer" / "vocab.txt"), "a");
  EXPECT_EQ(entries_in(final_path.parent_path()), 1u);
}

TEST_F(AtomicFolderTest, ReplacesAnOlderFolder) {
  const fs::path final_path = folder_ / "tokens";
  for (const char* name : {"old", "new"}) {
    AtomicFolder folder(final_path.string() + "/");  // as a shell completes it
    write_file_atomically(folder.path() / name, "");
    folder.commit();
  }
  EXPECT_EQ(entries_in(folder_), 1u);
  EXPECT_FALSE(fs::exists(final_path / "old"));
  EXPECT_TRUE(fs::exists(final_path / "new"));
}

TEST_F(AtomicFolderTest, GivesUpWithoutATrace) {
  {
    AtomicFolder folder(folder_ / "tokens");
    write_file_atomically(folder.path() / "shard", "half");
  }
  EXPECT_EQ(entries_in(folder_), 0u);
}

TEST_F(AtomicFolderTest, DoesNotReplaceAFile) {
  write_file_atomically(file_, "old");
  EXPECT_EQ(error_of([&] { AtomicFolder(file_).commit(); }),
            "cannot write " + file_.string() + ": Not a directory");
  EXPECT_EQ(read_file(file_), "old");
}

// What a process that is killed at this moment leaves behind.
void leave_behind(const std::function<void()>& writing) {
  const pid_t child = ::fork();
  if (child == 0) {
    writing();
    ::_exit(0);  // no destructor runs
  }
  int status = 0;
  ::waitpid(child, &status, 0);
}

TEST_F(AtomicFileTest, TheNextWriterCleansUpAfterAKilledOne) {
  leave_behind([&] { new AtomicFile(file_); });
  EXPECT_EQ(entries_in(folder_), 1u);
  write_file_atomically(file_, "new");
  EXPECT_EQ(entries_in(folder_), 1u);
  EXPECT_EQ(read_file(file_), "new");
}

TEST_F(AtomicFileTest, OnlyTemporariesWithoutAnOwnerAreAbandoned) {
  leave_behind([&] {
    new AtomicFile(folder_ / "a");
    auto* folder = new AtomicFolder(folder_ / "b");
    write_file_atomically(folder->path() / "c", "half");
  });
  AtomicFile file(folder_ / "a");
  AtomicFolder folder(folder_ / "b");
  for (const char* other : {"a.tmp", "a.tmp-1", "a.tmp-1-", "a.tmp-1-x", ".tmp-1-0"})
    write_file_atomically(folder_ / other, "no temporary");
  leave_behind([&] {
    new AtomicFile(folder_ / "d");
    remove_abandoned(folder_);
  });
  EXPECT_EQ(entries_in(folder_), 8u) << "another process's are alive";
  remove_abandoned(folder_);
  EXPECT_EQ(entries_in(folder_), 7u);
  file.commit();
  folder.commit();
}

TEST_F(AtomicFileTest, ASymbolicLinkStaysAndWhatItNamesIsReplaced) {
  fs::create_directory(folder_ / "other");
  write_file_atomically(folder_ / "other" / "result", "old");
  fs::create_symlink("other/result", folder_ / "link");
  fs::create_symlink("link", folder_ / "twice");
  write_file_atomically(folder_ / "twice", "new");
  EXPECT_TRUE(fs::is_symlink(folder_ / "link") && fs::is_symlink(folder_ / "twice"));
  EXPECT_EQ(read_file(folder_ / "other" / "result"), "new");
  fs::create_symlink("missing", folder_ / "broken");
  write_file_atomically(folder_ / "broken", "new");
  EXPECT_EQ(read_file(folder_ / "missing"), "new");
}

TEST_F(AtomicFileTest, AnOpenFileIsWrittenInPlace) {
  write_file_atomically(file_, "begin ");
  const int descriptor = ::open(file_.c_str(), O_RDWR);
  write_file_atomically(concat("/dev/fd/", descriptor), "end");
  struct stat status {};
  EXPECT_EQ(::fstat(descriptor, &status), 0);
  EXPECT_EQ(status.st_size, 9);
  EXPECT_EQ(read_file(file_), "begin end");
  ::close(descriptor);
}

TEST_F(AtomicFolderTest, IsDeletedWhole) {
  const fs::path folder = folder_ / "step-00000001";
  fs::create_directories(folder / "below");
  write_file_atomically(folder / "below" / "state.json", "");
  remove_folder(folder);
  EXPECT_EQ(entries_in(folder_), 0u);
  EXPECT_EQ(error_of([&] { remove_folder(folder); }),
            "cannot delete " + folder.string() + ": No such file or directory");
  EXPECT_EQ(entries_in(folder_), 0u);
}

}  // namespace
}  // namespace quench
