#include "base/log.h"

#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_color_sinks.h>

#include <cstdio>
#include <memory>
#include <mutex>
#include <string>

#include "base/error.h"

namespace quench {
namespace {

constexpr const char* kEraseLine = "\r\033[K";

// One lock for messages and the status line, so that neither is drawn into the other.
class Log {
 public:
  Log() : logger_("quench", std::make_shared<spdlog::sinks::stderr_color_sink_st>()) {
    logger_.set_pattern("%H:%M:%S %^%-7l%$ %v");
    logger_.flush_on(spdlog::level::info);
  }

  void message(spdlog::level::level_enum level, std::string_view text) {
    std::lock_guard lock(mutex_);
    const bool above_status = !status_.empty() && logger_.should_log(level);
    if (above_status) std::fputs(kEraseLine, stderr);
    logger_.log(level, spdlog::string_view_t(text.data(), text.size()));
    if (above_status) draw_status();
  }

  void set_level(spdlog::level::level_enum least) {
    std::lock_guard lock(mutex_);
    logger_.set_level(least);
  }

  void set_file(const std::filesystem::path& path, bool append) {
    std::lock_guard lock(mutex_);
    logger_.sinks().resize(1);
    if (path.empty()) return;
    try {
      auto file = std::make_shared<spdlog::sinks::basic_file_sink_st>(path.string(), !append);
      file->set_pattern("%Y-%m-%d %H:%M:%S %-7l %v");
      logger_.sinks().push_back(std::move(file));
    } catch (const spdlog::spdlog_ex& error) {
      fail("cannot write the log: ", error.what());
    }
  }

  void set_status(std::string_view line) {
    std::lock_guard lock(mutex_);
    if (!status_.empty()) std::fputs(kEraseLine, stderr);
    status_ = logger_.should_log(spdlog::level::info) ? line : std::string_view();
    draw_status();
  }

 private:
  void draw_status() {
    std::fputs(status_.c_str(), stderr);
    std::fflush(stderr);
  }

  std::mutex mutex_;
  spdlog::logger logger_;
  std::string status_;
};

// Never destroyed: static objects and detached threads may log until the very end.
Log& the_log() {
  static Log& log = *new Log;
  return log;
}

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      break;
  }
  return spdlog::level::err;
}

}  // namespace

void log_info(std::string_view message) { the_log().message(spdlog::level::info, message); }
void log_warning(std::string_view message) { the_log().message(spdlog::level::warn, message); }
void log_error(std::string_view message) { the_log().message(spdlog::level::err, message); }
void set_log_level(LogLevel least) { the_log().set_level(to_spdlog(least)); }
void set_log_file(const std::filesystem::path& path, bool append) {
  the_log().set_file(path, append);
}
void set_status_line(std::string_view line) { the_log().set_status(line); }

}  // namespace quench
