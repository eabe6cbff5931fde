#include "models/run_checkpoints.h"

#include <algorithm>
#include <charconv>
#include <cstdio>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "io/atomic_file.h"
#include "io/safetensors.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "step-";

std::optional<int64_t> step_of(std::string_view name) {
  if (!name.starts_with(kPrefix)) return std::nullopt;
  const char *begin = name.data() + kPrefix.size(), *end = name.data() + name.size();
  int64_t step = 0;
  const auto [rest, error] = std::from_chars(begin, end, step);
  return error == std::errc() && rest == end && step >= 0 ? std::optional(step) : std::nullopt;
}

// The content of `latest`; empty where there is none.
std::string read_latest(const fs::path& checkpoints) {
  const fs::path file = checkpoints / "latest";
  if (fs::is_symlink(file)) return fs::path(fs::read_symlink(file) / "").parent_path().filename();
  return fs::is_regular_file(file) ? std::string(trimmed(read_file(file))) : "";
}

}  // namespace

std::string step_name(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
  return name;
}

std::vector<StepFolder> step_folders(const fs::path& run) {
  std::vector<StepFolder> folders;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(run / "checkpoints", none))
    if (const auto step = step_of(entry.path().filename().string()))
      folders.push_back({*step, entry.path()});
  std::ranges::sort(folders, {}, &StepFolder::step);
  return folders;
}

std::string defect(const fs::path& checkpoint, CheckpointUse use) {
  std::vector<const char*> tensors = {"model.safetensors"}, texts = {"config.json"};
  if (use == CheckpointUse::kTraining) {
    tensors.push_back("training.safetensors");
    texts.push_back("state.json");
  }
  try {
    for (const char* name : texts) {
      const fs::path file = checkpoint / name;
      check(fs::exists(file), file.string(), " is missing");
      check(parse_json(read_file(file), /*allow_exceptions=*/false).is_object(), file.string(),
            " is no JSON object");
    }
    for (const char* name : tensors) {
      check(fs::exists(checkpoint / name), (checkpoint / name).string(), " is missing");
      read_safetensors_header(checkpoint / name);  // also fails on a file of another length
    }
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

std::optional<StepFolder> latest_checkpoint(const fs::path& run, CheckpointUse use) {
  const std::vector<StepFolder> folders = step_folders(run);
  const fs::path checkpoints = run / "checkpoints";
  const std::string named = read_latest(checkpoints);
  std::string why = named.empty()
                        ? "is missing or empty"
                        : concat("names '", truncate_to_width(named, 40), "', which is not there");
  for (const StepFolder& folder : folders) {
    if (folder.path.filename() != named) continue;
    if (use == CheckpointUse::kModel) return folder;  // who reads it says what is damaged
    const std::string lacks = defect(folder.path, use);
    if (lacks.empty()) return folder;
    why = concat("names ", named, ", which is not complete: ", lacks);
  }
  for (auto folder = folders.rbegin(); folder != folders.rend(); ++folder) {
    if (folder->path.filename() == named || !defect(folder->path, use).empty()) continue;
    log_warning(concat((checkpoints / "latest").string(), " ", why, "; taking ",
                       folder->path.filename().string(), ", the newest complete checkpoint"));
    return *folder;
  }
  check(folders.empty(), run.string(),
        " holds no complete checkpoint: ", (checkpoints / "latest").string(), " ", why);
  return std::nullopt;
}

}  // namespace quench
