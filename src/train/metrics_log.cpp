#include "train/metrics_log.h"

#include <sstream>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "io/atomic_file.h"

namespace quench {

namespace fs = std::filesystem;

MetricsLog::MetricsLog(const fs::path& run, int64_t first_step, bool finished, bool tensorboard) {
  const fs::path path = run / "metrics.jsonl";
  std::string kept;
  if (fs::exists(path)) {
    std::istringstream lines(read_file(path));
    for (std::string line; std::getline(lines, line);) {
      const Json json = parse_json(line, /*allow_exceptions=*/false);
      if (!json.is_object()) continue;  // cut by a kill
      const int64_t step = json.value("step", first_step + 1);
      const bool repeated = finished && step == first_step && json.contains("eval_loss");
      if (step > first_step || repeated) continue;
      kept += line + "\n";
      evaluated_ = step == first_step && json.contains("eval_loss");
    }
  }
  write_file_atomically(path, kept);
  file_.emplace(path);
  if (tensorboard) tensorboard_.emplace(run / "tb", first_step);
}

void MetricsLog::add(int64_t step, const std::string& group, const Json& values) {
  Json line = {{"step", step}};
  line.update(values);
  file_->add(dump(line) + "\n");
  if (tensorboard_)
    for (const auto& [key, value] : values.items())
      if (value.is_number()) tensorboard_->scalar(group + "/" + key, step, value.get<double>());
  try {
    file_->flush();
    if (tensorboard_) tensorboard_->flush();
    behind_ = false;
  } catch (const Error& error) {
    if (!std::exchange(behind_, true))
      log_warning(
          concat(error.what(), "; what belongs there is kept and tried again with the next"));
  }
}

}  // namespace quench
