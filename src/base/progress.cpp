#include "base/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"

namespace quench {
namespace {

constexpr double kRateWindow = 30;       // seconds
constexpr double kSampleInterval = 1;    // seconds
constexpr double kRedrawInterval = 0.1;  // seconds, on a terminal
constexpr double kPrintInterval = 10;    // seconds between plain lines, at least
constexpr double kHeartbeat = 60;        // seconds between plain lines, at most
constexpr int64_t kPrintParts = 20;  // plain lines a job, where it is neither short nor very long

size_t terminal_columns() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

}  // namespace

std::string format_line(const ProgressLine& line) {
  std::string text = concat(line.label, "  ", line.done);
  if (line.total > 0) text += concat('/', line.total, ' ', 100 * line.done / line.total, '%');
  if (!line.detail.empty()) text += "  " + line.detail;
  if (line.rate > 0) text += concat("  ", format_count(line.rate), ' ', line.unit, "/s");
  if (line.finished) {
    text += "  took " + format_duration(line.seconds);
  } else if (line.rate > 0 && line.total > 0) {
    text += "  ETA " + format_duration(line.seconds);
  }
  return text;
}

ProgressOutput standard_progress_output() {
  const char* terminal_type = std::getenv("TERM");
  ProgressOutput output;
  output.terminal =
      ::isatty(STDERR_FILENO) && terminal_type && std::string_view(terminal_type) != "dumb";
  output.seconds = [] {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration<double>(now).count();
  };
  output.redraw = [](std::string_view line) {
    set_status_line(truncate_to_width(line, terminal_columns() - 1));
  };
  output.print = log_info;
  return output;
}

Progress::Progress(std::string label, int64_t total, std::string unit, double units_per_step,
                   int64_t initial, ProgressOutput output)
    : units_per_step_(units_per_step),
      initial_(initial),
      output_(std::move(output)),
      start_(output_.seconds()),
      samples_{{start_, initial}},
      shown_at_(output_.terminal ? start_ - kRedrawInterval : start_),
      shown_done_(initial) {
  line_.label = std::move(label);
  line_.done = initial;
  line_.total = total;
  line_.unit = std::move(unit);
}

Progress::~Progress() {
  if (output_.terminal && !line_.finished) output_.redraw("");
}

void Progress::update(int64_t done, std::string_view detail) {
  line_.done = done;
  if (!detail.empty()) line_.detail = detail;
  const double now = output_.seconds();
  const double steps_per_second = sample(now);
  if (!is_due(now)) return;
  line_.rate = steps_per_second * units_per_step_;
  line_.seconds = static_cast<double>(line_.total - done) / steps_per_second;
  (output_.terminal ? output_.redraw : output_.print)(format_line(line_));
  shown_at_ = now;
  shown_done_ = done;
}

void Progress::finish() {
  if (line_.finished) return;
  line_.finished = true;
  line_.seconds = output_.seconds() - start_;
  const double units = static_cast<double>(line_.done - initial_) * units_per_step_;
  line_.rate = line_.seconds > 0 ? units / line_.seconds : 0;
  if (output_.terminal) output_.redraw("");
  output_.print(format_line(line_));
}

double Progress::sample(double now) {
  // The front is the youngest sample that is at least as old as the window, where there is one.
  while (samples_.size() > 1 && now - samples_[1].first >= kRateWindow) samples_.pop_front();
  const auto [then, done_then] = samples_.front();
  if (now - samples_.back().first >= kSampleInterval) samples_.emplace_back(now, line_.done);
  return now > then ? static_cast<double>(line_.done - done_then) / (now - then) : 0;
}

bool Progress::is_due(double now) const {
  const double elapsed = now - shown_at_;
  if (output_.terminal) return elapsed >= kRedrawInterval;
  const bool next_part = kPrintParts * (line_.done - shown_done_) >= line_.total;
  return elapsed >= kHeartbeat || (elapsed >= kPrintInterval && next_part);
}

}  // namespace quench
