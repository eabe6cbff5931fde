// The two parts of a data set.
#pragma once

namespace quench {

enum class Subset { kTrain, kValidation };

}  // namespace quench
