#include "train/metrics_log.h"

#include "base/error.h"
#include "io/atomic_file.h"

namespace quench {

namespace fs = std::filesystem;

MetricsLog::MetricsLog(const fs::path& run, int64_t first_step, bool finished, bool tensorboard)
    : path_(run / "metrics.jsonl") {
  std::string kept;
  if (fs::exists(path_)) {
    std::istringstream lines(read_file(path_));
    for (std::string line; std::getline(lines, line);) {
      const Json json = parse_json(line, /*allow_exceptions=*/false);
      if (!json.is_object()) continue;  // cut by a kill
      const int64_t step = json.value("step", first_step + 1);
      const bool repeated = finished && step == first_step && json.contains("eval_loss");
      if (step <= first_step && !repeated) kept += line + "\n";
    }
  }
  write_file_atomically(path_, kept);
  file_.open(path_, std::ios::app);
  check(file_.good(), path_.string(), ": cannot be opened for writing");
  if (tensorboard) tensorboard_.emplace(run / "tb", first_step);
}

void MetricsLog::add(int64_t step, const std::string& group, const Json& values) {
  Json line = {{"step", step}};
  line.update(values);
  file_ << dump(line) << std::endl;
  check(file_.good(), path_.string(), ": cannot be written");
  if (!tensorboard_) return;
  for (const auto& [key, value] : values.items())
    if (value.is_number()) tensorboard_->scalar(group + "/" + key, step, value.get<double>());
  tensorboard_->flush();
}

}  // namespace quench
