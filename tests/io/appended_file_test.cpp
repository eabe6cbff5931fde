#include "io/appended_file.h"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "io/atomic_file.h"
#include "tests/io/temporary_folder.h"

namespace quench {
namespace {

class AppendedFileTest : public TemporaryFolder {
 protected:
  const std::filesystem::path path_ = folder_ / "lines";
};

TEST_F(AppendedFileTest, GrowsBehindWhatThereIs) {
  write_file_atomically(path_, "a\n");
  AppendedFile file(path_);
  file.add("b\n");
  file.add("c\n");
  file.flush();
  EXPECT_EQ(read_file(path_), "a\nb\nc\n");
}

// In a process of its own, which may write files of at most so many bytes.
TEST_F(AppendedFileTest, WhatFindsNoRoomIsTriedAgain) {
  const pid_t child = ::fork();
  if (child == 0) {
    std::signal(SIGXFSZ, SIG_IGN);
    const auto allow = [](rlim_t bytes) {
      const rlimit limit{bytes, RLIM_INFINITY};
      ::setrlimit(RLIMIT_FSIZE, &limit);
    };
    AppendedFile file(path_);
    file.add("first\n");
    file.flush();
    allow(8);
    file.add("second\n");
    bool failed = false;
    try {
      file.flush();
    } catch (const Error& error) {
      failed = std::string(error.what()).starts_with("cannot write " + path_.string() + ": ");
    }
    const bool clean = read_file(path_) == "first\n";
    allow(RLIM_INFINITY);
    file.add("third\n");
    file.flush();
    ::_exit(failed && clean && read_file(path_) == "first\nsecond\nthird\n" ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace quench
