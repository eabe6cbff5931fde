// How far a long job has come: one line that is redrawn on a terminal, a plain line now and then in
// a log file.
//
//   train  1200/5000 24%  loss 4.123  18.2k tokens/s  ETA 3:12
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <string>
#include <string_view>
#include <utility>

namespace quench {

// What a line says.
struct ProgressLine {
  std::string label;
  int64_t done = 0;
  int64_t total = 0;  // 0: not known
  std::string detail;
  double rate = 0;  // units a second, 0: not known yet
  std::string unit;
  double seconds = 0;  // still to go; spent, once finished
  bool finished = false;
};
std::string format_line(const ProgressLine& line);

// Where lines go and what the time is; tests bring their own.
struct ProgressOutput {
  bool terminal = false;
  std::function<double()> seconds;               // a clock that never goes back
  std::function<void(std::string_view)> redraw;  // replaces the line at the bottom; "" removes it
  std::function<void(std::string_view)> print;   // adds a line for good
};
ProgressOutput standard_progress_output();  // stderr, through base/log.h

// On a terminal the line is redrawn at most ten times a second. Elsewhere a line is printed at most
// every ten seconds: when another 5 % are done, and once a minute at least.
class Progress {
 public:
  // `done` counts steps from `initial` (a resumed job) to `total`; the rate counts `unit`s, of
  // which a step has `units_per_step`. The rate is that of the last 30 seconds.
  Progress(std::string label, int64_t total, std::string unit, double units_per_step = 1,
           int64_t initial = 0, ProgressOutput output = standard_progress_output());
  ~Progress();  // removes the line of a job that did not finish
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  // An empty `detail` keeps the last one.
  void update(int64_t done, std::string_view detail = {});

  // Prints a last line with the time spent and the mean rate.
  void finish();

 private:
  double sample(double now);  // steps a second
  bool is_due(double now) const;

  ProgressLine line_;
  double units_per_step_;
  int64_t initial_;
  ProgressOutput output_;
  double start_;
  std::deque<std::pair<double, int64_t>> samples_;  // (seconds, done), a second apart at least
  double shown_at_;
  int64_t shown_done_;
};

}  // namespace quench
