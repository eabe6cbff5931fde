// Messages for people, on stderr ("12:03:01 info    ...", the level coloured on a terminal) and in
// a run's log.txt. Safe to call from any thread.
//
// This header knows neither spdlog nor fmt: torch's include folder carries an fmt that does not fit
// Debian's spdlog, so log.cpp alone may see spdlog and is compiled without torch.
#pragma once

#include <filesystem>
#include <string_view>

namespace quench {

enum class LogLevel { kInfo, kWarning, kError };

void log_info(std::string_view message);
void log_warning(std::string_view message);
void log_error(std::string_view message);

// Less important messages are dropped, on stderr and in the file. kInfo at the start.
void set_log_level(LogLevel least);

// From now on messages go to this file too, instead of an earlier one; an empty path means none.
// Throws Error when it cannot be opened.
void set_log_file(const std::filesystem::path& path, bool append);

// Shows `line` (no newline, not wider than the terminal) below all messages and keeps it there
// while messages scroll above it. An empty line removes it. Only for a terminal.
void set_status_line(std::string_view line);

}  // namespace quench
