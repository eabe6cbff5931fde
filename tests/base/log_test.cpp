#include "base/log.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"

namespace quench {
namespace {

std::string content_of(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

class Log : public testing::Test {
 protected:
  void TearDown() override {
    set_log_file("", false);
    set_log_level(LogLevel::kInfo);
    set_status_line("");
    std::filesystem::remove(file_);
  }

  const std::filesystem::path file_ =
      testing::TempDir() + concat("quench-test-", ::getpid(), ".log");
};

TEST_F(Log, WritesTimeLevelAndMessage) {
  testing::internal::CaptureStderr();
  log_info("hello {}");  // braces are not a format
  log_warning("careful");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_TRUE(std::regex_match(text, std::regex(R"(\d\d:\d\d:\d\d info    hello \{\}\n)"
                                                R"(\d\d:\d\d:\d\d warning careful\n)")))
      << text;
}

TEST_F(Log, LevelDropsWhatIsLessImportant) {
  set_log_level(LogLevel::kWarning);
  testing::internal::CaptureStderr();
  log_info("detail");
  set_status_line("progress");
  log_error("broken");
  const std::string text = testing::internal::GetCapturedStderr();
  EXPECT_EQ(text.find("detail"), std::string::npos);
  EXPECT_EQ(text.find("progress"), std::string::npos);
  EXPECT_NE(text.find("broken"), std::string::npos);
}

TEST_F(Log, FileGetsTheMessagesAtOnceAndAppends) {
  testing::internal::CaptureStderr();
  set_log_file(file_, false);
  log_info("first");
  EXPECT_NE(content_of(file_).find("info    first\n"), std::string::npos);
  set_log_file("", false);
  log_info("between");
  set_log_file(file_, true);
  log_info("second");
  const std::string text = content_of(file_);
  EXPECT_NE(text.find("first"), std::string::npos);
  EXPECT_EQ(text.find("between"), std::string::npos);
  EXPECT_NE(text.find("second"), std::string::npos);
  set_log_file(file_, false);
  EXPECT_EQ(content_of(file_), "");
  testing::internal::GetCapturedStderr();
}

TEST_F(Log, FileThatCannotBeOpenedIsNamed) {
  try {
    set_log_file("/proc/no-such-folder/log.txt", false);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("/proc/no-such-folder/log.txt"), std::string::npos);
  }
}

TEST_F(Log, MessagesScrollAboveTheStatusLine) {
  testing::internal::CaptureStderr();
  set_status_line("50%");
  log_info("saved");
  set_status_line("51%");
  set_status_line("");
  const std::string text = testing::internal::GetCapturedStderr();
  const std::string erase = "\r\033[K";
  const size_t message = text.find("saved\n");
  ASSERT_NE(message, std::string::npos);
  EXPECT_EQ(text.substr(0, 3 + erase.size()), "50%" + erase);
  EXPECT_EQ(text.substr(message + 6), "50%" + erase + "51%" + erase);
}

TEST_F(Log, ThreadsDoNotMixTheirLines) {
  testing::internal::CaptureStderr();
  set_log_file(file_, false);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([] {
      for (int i = 0; i < 100; ++i) {
        set_status_line("status");
        log_info("a whole line");
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  testing::internal::GetCapturedStderr();
  std::ifstream file(file_);
  const std::regex line_pattern(R"([-\d]+ [:\d]+ info    a whole line)");
  int lines = 0;
  for (std::string line; std::getline(file, line); ++lines) {
    EXPECT_TRUE(std::regex_match(line, line_pattern)) << line;
  }
  EXPECT_EQ(lines, 400);
}

}  // namespace
}  // namespace quench
