// A checkpoint: a Hugging Face folder (models/pretrained.h) with training.safetensors and
// state.json beside it, which hold what resuming needs. It appears whole or not at all; `latest`
// names the newest complete one. With a moving average of the weights, the folder's model is the
// average, and training.safetensors holds the weights themselves.
#pragma once

#include <filesystem>
#include <string>

#include "data/tokenizer.h"
#include "models/pretrained.h"

namespace quench {

struct TrainingState {
  int64_t step = 0;  // optimizer steps done
  double loss_scale = 65536;
  int64_t loss_scale_growth = 0;  // fp16: steps since the scale last changed
  double loss_sum = 0;            // training loss of the steps since the last log line
  int64_t loss_count = 0;         // how many these are
  std::vector<std::pair<std::string, at::Tensor>> tensors;  // moments, and what else training keeps
};

// Writes <run>/checkpoints/step-00001000 and points `latest` to it; deletes all but the newest
// `keep` (0: none).
void save_checkpoint(const std::filesystem::path& run, const Pretrained& pretrained,
                     const Tokenizer* tokenizer, const TrainingState& state, int64_t keep);

// Loads the newest checkpoint of a run into a model of the same architecture. Fills the tensors of
// `state` in place and the rest of it. Throws Error naming the folder.
void load_checkpoint(const std::filesystem::path& run, Pretrained& pretrained,
                     TrainingState& state);

}  // namespace quench
