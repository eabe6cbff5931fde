#include "train/checkpoint.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cstdio>

#include "base/error.h"
#include "base/log.h"
#include "io/atomic_file.h"
#include "io/safetensors.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

std::string step_name(int64_t step) {
  char name[32];
  std::snprintf(name, sizeof name, "step-%08lld", static_cast<long long>(step));
  return name;
}

void delete_old(const fs::path& checkpoints, int64_t keep) {
  if (keep == 0) return;
  std::vector<fs::path> folders;
  for (const auto& entry : fs::directory_iterator(checkpoints)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with("step-") && name.find(".tmp") == std::string::npos)
      folders.push_back(entry.path());
  }
  std::sort(folders.rbegin(), folders.rend());
  for (size_t i = static_cast<size_t>(keep); i < folders.size(); ++i) {
    std::error_code failed;
    fs::remove_all(folders[i], failed);
    if (failed) log_warning(concat("cannot delete ", folders[i].string(), ": ", failed.message()));
  }
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
    state.step = json.at("step").get<int64_t>();
    state.loss_scale = json.at("loss_scale").get<double>();
    state.loss_scale_growth = json.at("loss_scale_growth").get<int64_t>();
    state.loss_sum = json.value("loss_sum", 0.0);  // older checkpoints lack it
    state.loss_count = json.value("loss_count", int64_t{0});
  } catch (const Json::exception& error) {
    fail(file.string(), ": ", error.what());
  }
}

// Copies what was saved into tensors of the same names.
void fill(const std::vector<std::pair<std::string, at::Tensor>>& tensors,
          const std::map<std::string, at::Tensor>& saved) {
  check(tensors.size() >= saved.size(),
        "its model is a moving average of weights: the config needs a train.ema_decay, too");
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

void save_checkpoint(const fs::path& run, const Pretrained& pretrained, const Tokenizer* tokenizer,
                     const TrainingState& state, int64_t keep) {
  const fs::path checkpoints = run / "checkpoints";
  AtomicFolder folder(checkpoints / step_name(state.step));
  save_pretrained(folder.path(), pretrained);
  if (tokenizer) tokenizer->save(folder.path().string());
  write_safetensors(folder.path() / "training.safetensors", state.tensors);
  const Json json = {{"step", state.step},
                     {"loss_scale", state.loss_scale},
                     {"loss_scale_growth", state.loss_scale_growth},
                     {"loss_sum", state.loss_sum},
                     {"loss_count", state.loss_count}};
  write_file_atomically(folder.path() / "state.json", dump(json, 2) + "\n");
  folder.commit();
  write_file_atomically(checkpoints / "latest", step_name(state.step) + "\n");
  delete_old(checkpoints, keep);
}

void load_checkpoint(const fs::path& run, Pretrained& pretrained, TrainingState& state) {
  const fs::path folder = model_folder(run.string());
  try {
    check_same_architecture(load_architecture(folder), pretrained);
    load_values(pretrained.model->parameters, read_safetensors(folder / "model.safetensors"));
    fill(state.tensors, read_safetensors(folder / "training.safetensors"));
    read_state(folder / "state.json", state);
  } catch (const Error& error) {
    fail("cannot resume from ", folder.string(), ": ", error.what());
  }
}

}  // namespace quench
