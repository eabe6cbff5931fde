// A run's curves: metrics.jsonl, one JSON object a logged step, and TensorBoard events beside it.
#pragma once

#include <filesystem>
#include <fstream>
#include <optional>

#include "base/json.h"
#include "report/tensorboard.h"

namespace quench {

class MetricsLog {
 public:
  // Keeps earlier lines up to `first_step` (a resumed run repeats the later ones) and continues
  // behind them. A run that has `finished` its steps repeats its last evaluation, too.
  MetricsLog(const std::filesystem::path& run, int64_t first_step, bool finished, bool tensorboard);

  // Appends {"step": step, ...values}; every number also becomes the TensorBoard scalar
  // `<group>/<key>`.
  void add(int64_t step, const std::string& group, const Json& values);

 private:
  std::filesystem::path path_;
  std::ofstream file_;
  std::optional<TensorBoardWriter> tensorboard_;
};

}  // namespace quench
