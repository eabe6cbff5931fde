// The whole config of a run: every section of docs/design.md 4.2.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "batches/data_config.h"
#include "models/model.h"
#include "optimizers/adamw.h"
#include "penalties/penalty.h"
#include "run/ptq_config.h"

namespace quench {

struct ScheduleConfig {
  std::string shape = "linear";
  config::Steps warmup_steps = 0;
  std::optional<config::Steps> steps;  // length of the schedule; default: train.steps
  bool warmup_from_zero = false;       // as the reference: the first step has rate 0
  double final_lr_fraction = 0;
};

struct TrainConfig {
  config::Steps steps = 1000;
  int64_t batch_size = 32;
  int64_t gradient_accumulation_steps = 1;
  std::string loss_mean = "tokens";     // of one step, over its forward passes | batches
  std::optional<double> max_grad_norm;  // 0: off; load_run_config fills in 1, and 0 for images
  std::optional<double> ema_decay;      // evaluate and save the moving average of the weights
  std::vector<std::shared_ptr<Penalty>> penalties;  // terms of the loss (penalties/penalty.h)
  int64_t seed = 1000;
  bool shuffle = true;
  std::optional<std::string> initialize_from;  // MODEL whose weights training starts from
  bool fresh_head = false;                     // but for its last layers
  int64_t log_every = 50;
  config::Steps eval_every = 0;  // 0: only at the end
  config::Steps checkpoint_every = 1000;
  int64_t keep_checkpoints = 2;  // 0: all
};

struct EvalConfig {
  int64_t batch_size = 32;
  std::optional<int64_t> max_batches;
  bool outliers = true;            // measure them
  bool sinks = false;              // and how much attention the first key gets
  int64_t kurtosis_batches = 257;  // as the reference
  int64_t seed = 1000;             // of the masks
};

struct OutputConfig {
  std::optional<std::string> folder;  // default: runs/<name of the config file>
  bool tensorboard = true;
};

struct RunConfig {
  std::shared_ptr<ModelConfig> model;
  AttentionConfig attention;
  std::shared_ptr<DataConfig> data;
  TokenizerConfig tokenizer;
  TaskConfig task;
  std::shared_ptr<OptimizerConfig> optimizer = std::make_shared<AdamWConfig>();
  ScheduleConfig schedule;
  TrainConfig train;
  std::string device = "auto";
  std::string precision = "fp32";
  EvalConfig eval;
  PtqConfig ptq;
  OutputConfig output;

  // The task, resolved: from the model where the config is silent.
  std::string task_type() const;
  DataContext data_context() const;

  // The tokenizer that a training begins with: that of train.initialize_from, if it has one and the
  // section `tokenizer` asks for no other; null: as that section says.
  std::shared_ptr<const Tokenizer> starting_tokenizer() const;

  // Each throws UsageError: if the model is for another task, if there is no such file.
  void check_task() const;
  void check_tokenizer_path() const;

  // Throws UsageError if `data` is for another task, or its sequences are longer than the model's.
  void check_data(const DataConfig& data) const;

  // Fills in what the model's section leaves to the data: vocabulary, number of classes. Throws
  // UsageError if the model does not take such data.
  void fit(const OpenedData& opened) const;

  // Turns what is given in epochs into steps, for a training set of `samples` samples. Throws
  // UsageError if it is endless, or if the warm-up is longer than the training.
  void resolve_epochs(int64_t samples);
  // That check alone, as far as it can be made before.
  void check_warmup() const;
};
void describe(config::Fields& fields, RunConfig& config);

// "train.seed was 1, now 2; ...": where two written configs of a run differ; empty: nowhere. What
// the model's section leaves to the data is no difference to what was found there.
std::string changes(const Json& was, const Json& is);

// Reads a config that need not describe a whole run, and validates its values and the files of its
// data. Throws UsageError; creates nothing.
RunConfig read_run_config(const config::Node& node);

// Reads CONFIG (a file, or a run folder's config.yaml), applies `--set` assignments, validates
// values and files. Throws UsageError; creates nothing.
RunConfig load_run_config(const std::string& path, const std::vector<std::string>& assignments);

}  // namespace quench
