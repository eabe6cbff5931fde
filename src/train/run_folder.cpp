#include "train/run_folder.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "io/atomic_file.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

constexpr const char* kResults[] = {"eval.json", "ptq"};  // of the last weights

std::string names(const std::vector<StepFolder>& folders) {
  std::vector<std::string> names;
  for (const StepFolder& folder : folders) names.push_back(std::to_string(folder.step));
  return listed(names, 20);
}

// A name in `folder` that is not taken: `name`, `name`-2, ...
fs::path free_name(const fs::path& folder, const std::string& name) {
  fs::path path = folder / name;
  for (int n = 2; fs::exists(path); ++n) path = folder / concat(name, "-", n);
  return path;
}

}  // namespace

RunFolder::RunFolder(fs::path path) : path_(std::move(path)) {
  std::error_code failed;
  made_ = fs::create_directories(path_, failed);
  if (failed) fail_usage("--output: '", path_.string(), "' cannot be created: ", failed.message());
  const fs::path lock = path_ / ".lock";
  if (auto taken = FileLock::try_take(lock)) lock_.emplace(std::move(*taken));
  if (!lock_)
    fail_usage(path_.string(), " is in use by ", lock_holder(lock),
               ": wait for it, or choose another --output");
  for (const char* part : {"", "checkpoints", "ptq"}) remove_abandoned(path_ / part);
}

RunFolder::~RunFolder() {
  lock_.reset();
  std::error_code not_empty;
  if (made_) fs::remove(path_, not_empty);
}

std::optional<StepFolder> RunFolder::start(const StartFrom& from) const {
  const std::vector<StepFolder> all = step_folders(path_);
  if (from.step) {
    const auto found = std::ranges::find(all, *from.step, &StepFolder::step);
    if (found == all.end())
      fail_usage("--resume-from ", *from.step, ": ", path_.string(),
                 all.empty() ? " has no checkpoint" : " has checkpoints of the steps ", names(all));
    const std::string lacks = defect(found->path, CheckpointUse::kTraining);
    if (!lacks.empty())
      fail_usage("--resume-from ", *from.step, ": ", found->path.string(),
                 " is not complete: ", lacks);
    return *found;
  }
  if (!from.resume) {
    if (!all.empty())
      fail_usage(path_.string(),
                 " holds a run already: continue it with --resume, or choose another --output");
    return std::nullopt;
  }
  const std::optional<StepFolder> latest = latest_checkpoint(path_, CheckpointUse::kTraining);
  if (!latest) log_info(concat(path_.string(), " has no checkpoint: the run starts anew"));
  if (latest && !fs::exists(path_ / "config.yaml"))
    log_warning(concat((path_ / "config.yaml").string(),
                       " is missing: whether the run began with this config cannot be told"));
  return latest;
}

std::optional<RunConfig> RunFolder::config() const {
  const fs::path file = path_ / "config.yaml";
  if (!fs::exists(file)) return std::nullopt;
  RunConfig config;
  config::read(config::load(file.string()), config);
  return config;
}

void RunFolder::check_resumable(const RunConfig& config) const {
  const std::optional<RunConfig> before = this->config();
  if (!before) return;
  const std::string refused = changes(config::write_fixed(*before), config::write_fixed(config));
  if (!refused.empty())
    fail_usage(path_.string(),
               " began with another config, and a run that is resumed keeps it: ", refused);
}

void RunFolder::set_files_aside() const {
  for (const char* name : {"config.yaml", "metrics.jsonl"}) {
    const fs::path file = path_ / name;
    if (!fs::exists(file) || fs::file_size(file) == 0) continue;
    const fs::path aside = free_name(path_, concat("earlier-", name));
    fs::rename(file, aside);
    log_info(concat(file.string(), " was there already: it is set aside as ", aside.string()));
  }
}

void RunFolder::check_evaluation(const RunConfig& config) const {
  const std::optional<RunConfig> before = this->config();
  if (!before || !fs::exists(path_ / "eval.json")) return;
  const auto decisive = [](const RunConfig& c) {
    const Json all = config::write(c);
    Json sections;
    for (const char* section : {"data", "eval", "precision"}) sections[section] = all.at(section);
    return sections;
  };
  const std::string differ = changes(decisive(*before), decisive(config));
  if (differ.empty()) return;
  log_info("the last evaluation is made anew: " + differ);
  fs::remove(path_ / "eval.json");
}

void RunFolder::set_results_aside(int64_t step) const {
  std::optional<fs::path> aside;
  for (const char* result : kResults) {
    if (!fs::exists(path_ / result)) continue;
    if (!aside) {
      aside = free_name(path_, "results-of-" + step_name(step));
      fs::create_directory(*aside);
      log_info(concat("the results of step ", step, " are set aside in ", aside->string()));
    }
    fs::rename(path_ / result, *aside / result);
  }
}

void RunFolder::roll_back_to(int64_t step) const {
  const fs::path checkpoints = path_ / "checkpoints";
  if (fs::is_symlink(checkpoints / "latest")) fs::remove(checkpoints / "latest");
  write_file_atomically(checkpoints / "latest", step_name(step) + "\n");
  std::vector<StepFolder> later = step_folders(path_);
  std::erase_if(later, [&](const StepFolder& folder) { return folder.step <= step; });
  if (later.empty()) return;
  const fs::path aside = free_name(checkpoints, "set-aside-after-" + step_name(step));
  fs::create_directory(aside);
  if (fs::exists(path_ / "metrics.jsonl"))
    fs::copy_file(path_ / "metrics.jsonl", aside / "metrics.jsonl");
  for (const char* result : kResults)
    if (fs::exists(path_ / result)) fs::rename(path_ / result, aside / result);
  for (const StepFolder& folder : later) fs::rename(folder.path, aside / folder.path.filename());
  log_warning(concat("going back to step ", step, "; what came after it (steps ", names(later),
                     ") is set aside in ", aside.string()));
}

}  // namespace quench
