// A run's curves: metrics.jsonl, one JSON object a logged step, and TensorBoard events beside it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "base/json.h"
#include "io/appended_file.h"
#include "report/tensorboard.h"

namespace quench {

class MetricsLog {
 public:
  // Keeps earlier lines up to `first_step` (a resumed run repeats the later ones) and continues
  // behind them. A run that has `finished` its steps repeats its last evaluation, too.
  MetricsLog(const std::filesystem::path& run, int64_t first_step, bool finished, bool tensorboard);

  // Appends {"step": step, ...values}; every number also becomes the TensorBoard scalar
  // `<group>/<key>`. What the disk has no room for is kept for the next call, with a warning.
  void add(int64_t step, const std::string& group, const Json& values);

  // Whether the last of the kept lines is an evaluation of the first step.
  bool evaluated() const { return evaluated_; }

 private:
  std::optional<AppendedFile> file_;
  bool evaluated_ = false, behind_ = false;
  std::optional<TensorBoardWriter> tensorboard_;
};

}  // namespace quench
