// The learning rate as a function of the step (SPEC 4.1).
#pragma once

#include <cstdint>

#include "run/config.h"

namespace quench {

// Rate of optimizer step `step` (0 = the first) of a run of `steps`, as a factor of the peak rate.
// Linear warm-up over w steps, then the schedule's shape down to `final_lr_fraction` (linear: by
// stretching, as the reference's run_clm), which holds from the schedule's end on.
double schedule_factor(const ScheduleConfig& schedule, int64_t steps, int64_t step);

}  // namespace quench
