// A run folder, while this process alone writes to it.
#pragma once

#include <filesystem>
#include <optional>

#include "io/file_lock.h"
#include "models/run_checkpoints.h"
#include "run/config.h"

namespace quench {

// Where a training begins.
struct StartFrom {
  bool resume = false;          // at the run's latest checkpoint, if it has one
  std::optional<int64_t> step;  // at the checkpoint of this step, which must be there
};

class RunFolder {
 public:
  // Makes the folder if need be, deletes what killed processes left in it, and locks it until this
  // process ends. Throws UsageError where another process has it (and names that), or it cannot be
  // made.
  explicit RunFolder(std::filesystem::path path);
  ~RunFolder();  // removes the folder again if it made it and nothing was written
  RunFolder(const RunFolder&) = delete;
  RunFolder& operator=(const RunFolder&) = delete;

  const std::filesystem::path& path() const { return path_; }

  // The checkpoint at which to begin; std::nullopt: anew. Changes nothing. Throws UsageError where
  // the folder holds a run that is not to be resumed, or has no such checkpoint.
  std::optional<StepFolder> start(const StartFrom& from) const;

  // Throws UsageError naming each key that a resumed run may not change, with both values, if
  // `config` differs there from the one in the folder.
  void check_resumable(const RunConfig& config) const;

  // A config and curves that are there before a run begins are somebody's: they get other names.
  void set_files_aside() const;

  // An evaluation that is there was made as `config` asks; if not, it is deleted, and a message
  // says in what they differ.
  void check_evaluation(const RunConfig& config) const;

  // What was measured on the weights of `step` moves to results-of-step-..., since the run goes on
  // and its results will be those of later weights.
  void set_results_aside(int64_t step) const;

  // Makes the checkpoint of `step` the latest. What the run had after it is another history: its
  // checkpoints, curves and results move to checkpoints/set-aside-after-step-...
  void roll_back_to(int64_t step) const;

 private:
  // With which the run began, or was last resumed; std::nullopt: none is there.
  std::optional<RunConfig> config() const;

  std::filesystem::path path_;
  bool made_;
  std::optional<FileLock> lock_;
};

}  // namespace quench
