#include "train/checkpoint.h"

#include <ATen/ATen.h>

#include <set>
#include <utility>

#include "base/environment.h"
#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "io/atomic_file.h"
#include "io/safetensors.h"
#include "models/run_checkpoints.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// All complete checkpoints but the newest `keep`. What is not complete is not ours to judge.
void delete_old(const fs::path& run, int64_t keep) {
  if (keep == 0) return;
  std::vector<StepFolder> complete = step_folders(run);
  std::erase_if(complete, [](const StepFolder& folder) {
    return !defect(folder.path, CheckpointUse::kTraining).empty();
  });
  for (size_t i = 0; i + static_cast<size_t>(keep) < complete.size(); ++i) {
    try {
      remove_folder(complete[i].path);
    } catch (const Error& error) {
      log_warning(error.what());
    }
  }
}

// Names `folder` the run's latest checkpoint and gives it its name, in this order: so a `latest`
// that is older than a complete checkpoint is always somebody's wish to go back, never what a crash
// between the two has left.
void commit_as_latest(AtomicFolder& folder, const fs::path& checkpoints, int64_t step) {
  const fs::path latest = checkpoints / "latest";
  if (fs::is_symlink(latest)) fs::remove(latest);  // somebody's wish to go back: that is done
  const std::string before = fs::exists(latest) ? read_file(latest) : "";
  try {
    folder.commit([&] { write_file_atomically(latest, step_name(step) + "\n"); });
  } catch (const Error&) {
    if (!before.empty()) write_file_atomically(latest, before);
    throw;
  }
}

// Copies `from` to `to`, in whose memory a copy lies already unless it is empty.
void copy_tensors(const NamedTensors& from, NamedTensors& to) {
  if (to.empty())
    for (const auto& [name, tensor] : from)
      to.emplace_back(name, at::empty(tensor.sizes(), at::dtype(tensor.scalar_type())));
  for (size_t i = 0; i < from.size(); ++i) to[i].second.copy_(from[i].second.detach());
}

uint64_t bytes_of(const NamedTensors& tensors) {
  uint64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) bytes += tensor.nbytes();
  return bytes;
}

// The model of a checkpoint must be the one that the config describes.
void check_same_architecture(const Pretrained& saved, const Pretrained& expected) {
  const Json was = saved.config->hugging_face(), is = expected.config->hugging_face();
  for (const auto& [key, value] : is.items())
    check(was.contains(key) && was.at(key) == value, "is of another model: ", key, " is ",
          was.contains(key) ? dump(was.at(key)) : "missing", ", the config says ", dump(value));
  check(config::write(saved.attention) == config::write(expected.attention),
        "was made with another attention: ", dump(config::write(saved.attention)),
        ", the config says ", dump(config::write(expected.attention)));
  check_class_order(expected.class_names, saved);
}

void read_state(const fs::path& file, TrainingState& state) {
  try {
    const Json json = parse_json(read_file(file));
    const auto count = [&](const char* key) {
      const Json& value = json.at(key);
      check(value.is_number_integer() && value.get<double>() >= 0 && value.get<double>() < 1e18,
            file.string(), ": ", key, " is ", dump(value), "; expected a count");
      return value.get<int64_t>();
    };
    const auto older = [&](const char* key) { return json.contains(key) ? count(key) : 0; };
    state.step = count("step");
    state.samples = older("samples");  // older checkpoints lack these five
    state.data = json.value("data", "");
    state.validation_data = json.value("validation_data", "");
    state.loss_scale = json.at("loss_scale").get<double>();
    state.loss_scale_growth = count("loss_scale_growth");
    state.loss_sum = json.value("loss_sum", 0.0);
    state.loss_count = older("loss_count");
  } catch (const Json::exception& error) {
    fail(file.string(), ": ", error.what());
  }
}

// Copies what was saved into tensors of the same names.
void fill(const std::vector<std::pair<std::string, at::Tensor>>& tensors,
          const std::map<std::string, at::Tensor>& saved) {
  std::set<std::string> expected;
  for (const auto& [name, tensor] : tensors) expected.insert(name);
  for (const auto& [name, tensor] : saved)
    check(expected.contains(name),
          name.starts_with("weight.")
              ? "its model is a moving average of weights: the config needs a train.ema_decay, too"
              : "'" + name + "' is of no use to the optimizer that the config asks for");
  for (const auto& [name, tensor] : tensors) {
    const auto found = saved.find(name);
    check(found != saved.end(), "'", name, "' is missing",
          name.starts_with("weight.") ? ": it has no moving average for train.ema_decay" : "");
    check(found->second.sizes() == tensor.sizes(), "'", name, "' has shape ", found->second.sizes(),
          ", expected ", tensor.sizes());
    tensor.copy_(found->second);
  }
}

}  // namespace

void save_checkpoint(const fs::path& run, const Pretrained& pretrained, const NamedTensors& weights,
                     const Tokenizer* tokenizer, const TrainingState& state, int64_t keep) {
  const fs::path checkpoints = run / "checkpoints";
  AtomicFolder folder(checkpoints / step_name(state.step));
  save_pretrained(folder.path(), pretrained, weights);
  if (tokenizer) tokenizer->save(folder.path().string());
  write_safetensors(folder.path() / "training.safetensors", state.tensors);
  const Json json = {{"step", state.step},
                     {"samples", state.samples},
                     {"data", state.data},
                     {"validation_data", state.validation_data},
                     {"loss_scale", state.loss_scale},
                     {"loss_scale_growth", state.loss_scale_growth},
                     {"loss_sum", state.loss_sum},
                     {"loss_count", state.loss_count}};
  write_file_atomically(folder.path() / "state.json", dump(json, 2) + "\n");
  commit_as_latest(folder, checkpoints, state.step);
  delete_old(run, keep);
}

void load_checkpoint(const fs::path& folder, Pretrained& pretrained, TrainingState& state) {
  try {
    check_same_architecture(load_architecture(folder), pretrained);
    load_values(pretrained.model->parameters, read_safetensors(folder / "model.safetensors"));
    fill(state.tensors, read_safetensors(folder / "training.safetensors"));
    read_state(folder / "state.json", state);
    const std::string name = step_name(state.step);
    check(!folder.filename().string().starts_with("step-") || folder.filename() == name,
          "its state.json is of step ", state.step, "; expected in a folder ", name);
  } catch (const Error& error) {
    fail("cannot resume from ", folder.string(), ": ", error.what());
  }
}

CheckpointWriter::CheckpointWriter(fs::path run, const Pretrained& pretrained,
                                   const Tokenizer* tokenizer, int64_t keep)
    : run_(std::move(run)), pretrained_(pretrained), tokenizer_(tokenizer), keep_(keep) {}

CheckpointWriter::~CheckpointWriter() {
  if (thread_.joinable()) thread_.join();
}

bool CheckpointWriter::write(const TrainingState& state) {
  finish();
  const NamedTensors weights = pretrained_.model->parameters.named_values();
  const uint64_t needed = bytes_of(weights) + bytes_of(state.tensors) + size_of_files(),
                 room = fs::space(disk()).available;
  if (room < needed) {
    log_warning(concat("no room for the checkpoint of step ", state.step, ": it takes ",
                       format_count(static_cast<double>(needed)), "B, and ", disk().string(),
                       " has ", format_count(static_cast<double>(room)), "B left"));
    return false;
  }
  if (!copies(needed)) {
    save_checkpoint(run_, pretrained_, weights, tokenizer_, state, keep_);
    return true;
  }
  copy_tensors(weights, weights_);
  NamedTensors tensors = std::move(state_.tensors);
  copy_tensors(state.tensors, tensors);
  state_ = state;
  state_.tensors = std::move(tensors);
  done_ = false;
  thread_ = std::thread([this] {
    try {
      save_checkpoint(run_, pretrained_, weights_, tokenizer_, state_, keep_);
    } catch (...) {
      error_ = std::current_exception();
    }
    done_ = true;
  });
  return true;
}

fs::path CheckpointWriter::disk() const {
  const fs::path checkpoints = run_ / "checkpoints";  // perhaps a link to another disk
  return fs::exists(checkpoints) ? checkpoints : run_;
}

uint64_t CheckpointWriter::size_of_files() {
  if (files_ > 0) return files_;
  constexpr uint64_t kSmall = 64 << 10;
  if (!tokenizer_) return files_ = kSmall;
  const AtomicFolder folder(disk() / "tokenizer");
  try {
    tokenizer_->save(folder.path().string());
  } catch (const Error&) {
    return fs::space(disk()).available;  // too much
  }
  uint64_t size = kSmall;
  for (const auto& file : fs::directory_iterator(folder.path())) size += file.file_size();
  return files_ = size;
}

bool CheckpointWriter::copies(uint64_t bytes) {
  if (!weights_.empty() || bytes < available_memory() / 10 * 9) return true;
  if (!std::exchange(told_, true))
    log_info(concat("memory has no room for a copy of the checkpoint (",
                    format_count(static_cast<double>(bytes)),
                    "B): steps wait while it is written"));
  return false;
}

void CheckpointWriter::poll() {
  if (done_) finish();
}

void CheckpointWriter::finish() {
  if (!thread_.joinable()) return;
  thread_.join();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

}  // namespace quench
