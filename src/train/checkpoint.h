// A checkpoint: a Hugging Face folder (models/pretrained.h) with training.safetensors and
// state.json beside it, which hold what resuming needs. It appears whole or not at all. With a
// moving average of the weights, the folder's model is the average, and training.safetensors holds
// the weights themselves.
#pragma once

#include <atomic>
#include <exception>
#include <filesystem>
#include <string>
#include <thread>

#include "data/tokenizer.h"
#include "models/pretrained.h"

namespace quench {

using NamedTensors = std::vector<std::pair<std::string, at::Tensor>>;

struct TrainingState {
  int64_t step = 0;             // optimizer steps done
  int64_t samples = 0;          // that these took from the data's endless stream; 0: not known
  std::string data;             // OpenedData::identity of the training data; empty: not known
  std::string validation_data;  // the same of the validation data
  double loss_scale = 65536;
  int64_t loss_scale_growth = 0;  // fp16: steps since the scale last changed
  double loss_sum = 0;            // losses of the steps since the last log line, by their weights
  int64_t loss_count = 0;         // sum of these weights
  NamedTensors tensors;           // moments, and what else training keeps
};

// Writes <run>/checkpoints/step-00001000 with `weights` as the model's and makes it the latest;
// then deletes all complete ones but the newest `keep` (0: none).
void save_checkpoint(const std::filesystem::path& run, const Pretrained& pretrained,
                     const NamedTensors& weights, const Tokenizer* tokenizer,
                     const TrainingState& state, int64_t keep);

// Loads the checkpoint in `folder` into a model of the same architecture. Fills the tensors of
// `state` in place and the rest of it. Throws Error naming the folder.
void load_checkpoint(const std::filesystem::path& folder, Pretrained& pretrained,
                     TrainingState& state);

// Writes checkpoints in a thread of its own, while training goes on: the caller waits only until
// the tensors are copied, and for the checkpoint before if that is still being written. The copy
// stays and is used again: on the CPU, as much memory as a checkpoint takes on the disk. Where the
// machine has not so much left, the caller waits for the writing, and is told so once.
class CheckpointWriter {
 public:
  // `pretrained` and `tokenizer` (null: none) outlive it; the config of the model does not change.
  CheckpointWriter(std::filesystem::path run, const Pretrained& pretrained,
                   const Tokenizer* tokenizer, int64_t keep);
  ~CheckpointWriter();  // waits

  // False, with a warning, where the disk has no room for it. Throws what writing the one before
  // threw.
  bool write(const TrainingState& state);
  // Throws what writing threw, if it has ended by now.
  void poll();
  // Waits for the one that is being written. Throws what writing it threw.
  void finish();

 private:
  std::filesystem::path disk() const;  // a folder on the one that checkpoints lie on
  uint64_t size_of_files();            // of the tokenizer and other small ones, at most
  bool copies(uint64_t bytes);         // whether there is memory for the copies

  std::filesystem::path run_;
  const Pretrained& pretrained_;
  const Tokenizer* tokenizer_;
  int64_t keep_;
  NamedTensors weights_;  // the copies
  TrainingState state_;
  uint64_t files_ = 0;  // size_of_files(), once it is known
  bool told_ = false;
  std::atomic<bool> done_ = false;
  std::exception_ptr error_;
  std::thread thread_;
};

}  // namespace quench
