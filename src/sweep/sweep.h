// A grid of training runs and PTQ settings over seeds, and the table made from it. What is done
// already is not done again; a cell that fails is reported and does not end the sweep.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "config/fields.h"
#include "report/table.h"

namespace quench {

// A way to quantize, one column of the table: assignments over the row's config.
struct SweepEntry {
  std::string name;
  std::vector<std::string> set;  // "ptq.weights.bits=4"
};

// A way to train, one row of the table.
struct SweepRow : SweepEntry {
  std::optional<std::string> base;  // default: the sweep's
};

struct SweepConfig {
  std::string title;
  std::optional<std::string> base;  // the config that runs start from, relative to the sweep's file
  std::vector<SweepRow> rows;
  std::vector<int64_t> seeds = {1000};  // of training
  std::vector<SweepEntry> ptq;
  std::vector<int64_t> ptq_seeds = {1, 2, 3};  // of calibration
  std::vector<int64_t> bits;            // of activations: a curve for the first way to quantize
  std::optional<std::string> baseline;  // the row that others are compared with
};
void describe(config::Fields& fields, SweepConfig& config);

// Reads CONFIG; every row gets its base; every assignment is applied to the base config of all
// runs, on top of the rows'. Validates every run before the first starts. Throws UsageError.
SweepConfig load_sweep(const std::string& path, const std::vector<std::string>& assignments);

struct SweepOutcome {
  Table table;
  Json json;       // {"title", "rows": [...] (sweep/results.h), "failed"}
  int failed = 0;  // cells
  int interrupted_by = 0;
};

// Runs into `folder`: <row>-seed<seed>/ is a run folder; writes table.txt, table.md and sweep.json
// as cells finish.
SweepOutcome run_sweep(const SweepConfig& sweep, const std::vector<std::string>& assignments,
                       const std::filesystem::path& folder);

}  // namespace quench
