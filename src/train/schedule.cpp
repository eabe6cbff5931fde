#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace quench {

double schedule_factor(const ScheduleConfig& schedule, int64_t steps, int64_t step) {
  int64_t total = schedule.steps.value_or(steps), warmup = schedule.warmup_steps;
  const double end = schedule.final_lr_fraction;
  if (schedule.shape == "linear" && end > 0) {
    const double stretch =
        1 / (1 - (1 - static_cast<double>(warmup) / static_cast<double>(total)) * end);
    warmup = static_cast<int64_t>(static_cast<double>(warmup) * stretch);
    total = static_cast<int64_t>(static_cast<double>(total) * stretch);
  }
  const double s = static_cast<double>(step), w = static_cast<double>(warmup);
  if (step < warmup) return schedule.warmup_from_zero ? s / std::max(1.0, w) : (s + 1) / (w + 1);
  const double left = std::max(
      0.0, static_cast<double>(total - step) / std::max(1.0, static_cast<double>(total) - w));
  if (schedule.shape == "constant") return 1;
  if (schedule.shape == "linear") return std::max(end, left);
  return end + (1 - end) * 0.5 * (1 + std::cos(std::numbers::pi * (1 - left)));
}

}  // namespace quench
