// What a sweep measured, and the table of it.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "report/table.h"

namespace quench {

// Training seed -> its value, or one for each calibration seed.
using Figure = std::map<int64_t, std::vector<double>>;

// How a training went: from its metrics.jsonl.
struct TrainingCurve {
  double step_seconds = 0;                        // median
  double seconds = 0;                             // of all steps
  std::vector<std::pair<double, double>> losses;  // seconds of training -> evaluation loss

  // Between two evaluations by a straight line; std::nullopt before the first.
  std::optional<double> loss_at(double seconds) const;
};
TrainingCurve read_training_curve(const std::filesystem::path& run, int64_t samples_a_step);

struct RowResult {
  std::string name;
  bool accuracy = false;
  Figure full, inf_norm, kurtosis, max_to_median, sink_rate, parameters;
  std::map<int64_t, TrainingCurve> curves;
  std::map<std::string, Figure> quantized;  // by the setting's name
  std::map<std::string, Json> bits;         // "bits" and "bits_within" of each setting, a list
};

struct SweepTable {
  std::vector<RowResult> rows;
  std::vector<std::string> settings;    // ways to quantize
  std::optional<std::string> baseline;  // the row that others are compared with
};

// With a baseline: sorted by the first setting, with what a row costs, and a star where a row
// differs from it beyond the noise of seeds: the 95 % interval of the paired differences (t, of at
// least two seeds) has no 0 in it.
Table to_table(const SweepTable& sweep, const std::string& title);

// [{"name", "perplexity" | "accuracy", "max_inf_norm", "avg_kurtosis", "max_to_median",
// "sink_rate", "parameters", "quantized": {setting: [...]}, "bits": {setting: [{"bits",
// "bits_within"}]}}]: lists over seeds, empty where nothing was measured. With a baseline also
// "step_seconds" and "loss_at_equal_time".
Json to_json(const SweepTable& sweep);

}  // namespace quench
