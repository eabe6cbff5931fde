// A checkpoint is a Hugging Face folder: config.json (Hugging Face's keys, and ours under
// "quench"), model.safetensors with Hugging Face's parameter names, and the tokenizer's files.
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "data/tokenizer.h"
#include "models/model.h"

namespace quench {

struct Pretrained {
  std::shared_ptr<ModelConfig> config;
  AttentionConfig attention;
  int64_t max_seq_length = 0;
  std::unique_ptr<Model> model;
  std::filesystem::path folder;    // where it was read from
  std::vector<std::string> fresh;  // parameters that were not there and were drawn instead
  // Of an image model, in the order of its logits; empty where they are not known.
  std::vector<std::string> class_names = {};
  // What the training data says of images and saving writes down; null where it is not known.
  Json image_processor = nullptr;
};

// The folder that MODEL means: one with a config.json, or a run's checkpoint (run_checkpoints.h).
// Throws UsageError.
std::filesystem::path model_folder(const std::string& model);

// Reads MODEL in float32 on the CPU, from model.safetensors or pytorch_model.bin (or their shards),
// in any of the namings of models/names.h. A head that is missing as a whole is drawn afresh, with
// a warning; any other missing or unexpected tensor is an error unless `allow_partial`.
// `assignments` (KEY=VALUE, as for --set) say what a config.json that is not ours cannot:
// attention.softmax, max_seq_length. Gates are recognised by their parameters. Throws Error.
Pretrained load_pretrained(const std::string& model, bool allow_partial = false,
                           const std::vector<std::string>& assignments = {});

// Throws UsageError if one of `classes`, in the order of the data's labels, is another of the
// model's. Names that the model does not have pass.
void check_class_order(const std::vector<std::string>& classes, const Pretrained& pretrained);

// Only config.json, with freshly allocated parameters.
Pretrained load_architecture(const std::filesystem::path& folder);

// Writes config.json and model.safetensors into an existing folder, and preprocessor_config.json
// where `image_processor` is known.
void save_pretrained(const std::filesystem::path& folder, const Pretrained& pretrained);
// With `weights` in place of the model's own.
void save_pretrained(const std::filesystem::path& folder, const Pretrained& pretrained,
                     const std::vector<std::pair<std::string, at::Tensor>>& weights);

}  // namespace quench
