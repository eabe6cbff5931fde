// The checkpoints of a run folder: <run>/checkpoints/step-00001000/ and so on; `latest` beside them
// names the one that counts.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace quench {

struct StepFolder {
  int64_t step;
  std::filesystem::path path;
};

std::string step_name(int64_t step);  // "step-00001000"

// In the order of their steps, complete or not; no temporaries, and none that was set aside.
std::vector<StepFolder> step_folders(const std::filesystem::path& run);

// What a checkpoint lacks, because it was copied in part or damaged: "<path> is
// missing". Empty if it is complete. A model can be used without what only training needs.
enum class CheckpointUse { kModel, kTraining };
std::string defect(const std::filesystem::path& checkpoint, CheckpointUse use);

// The checkpoint that `latest` names or, with a warning, the newest complete one where it names
// none that is complete. std::nullopt: there is none at all.
std::optional<StepFolder> latest_checkpoint(const std::filesystem::path& run, CheckpointUse use);

}  // namespace quench
