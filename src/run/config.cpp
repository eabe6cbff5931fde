#include "run/config.h"

#include <ATen/Context.h>

#include <filesystem>

#include "base/environment.h"
#include "base/error.h"
#include "base/log.h"
#include "models/pretrained.h"

namespace quench {

namespace fs = std::filesystem;
using config::at_least;
using config::between;
using config::greater_than;
using config::one_of;
using config::OnResume;

void describe(config::Fields& f, ScheduleConfig& c) {
  f("shape", c.shape, "shape after the warm-up", one_of({"linear", "cosine", "constant"}));
  f("warmup_steps", c.warmup_steps, "steps, or 'N epochs', of linear warm-up", at_least(0));
  f("steps", c.steps, "length of the schedule; default: train.steps", greater_than(0));
  f("warmup_from_zero", c.warmup_from_zero, "as the reference: the first step has rate 0");
  f("final_lr_fraction", c.final_lr_fraction, "share of the peak rate that is left at the end",
    between(0, 0.999));
  const bool constant = c.shape == "constant";
  f.require(!constant || c.final_lr_fraction == 0, "final_lr_fraction",
            "has no meaning with shape constant");
  f.require(!constant || !c.steps, "steps", "has no meaning with shape constant");
}

void describe(config::Fields& f, TrainConfig& c) {
  f("steps", c.steps, "optimizer steps, or 'N epochs'", greater_than(0), OnResume::kFree);
  f("batch_size", c.batch_size, "samples of one forward pass", at_least(1));
  f("gradient_accumulation_steps", c.gradient_accumulation_steps, "forward passes of one step",
    at_least(1));
  f("loss_mean", c.loss_mean,
    "what a step's loss is the mean of: all labels of its forward passes (tokens), or the passes' "
    "own means (batches), as in the paper's code",
    one_of({"tokens", "batches"}));
  f("max_grad_norm", c.max_grad_norm,
    "clip the global gradient norm; 0: off; default: 1, for images off", at_least(0));
  f("ema_decay", c.ema_decay,
    "evaluate and save the exponential moving average of the weights, with this decay a step",
    between(0, 0.9999999));
  f.list("penalties", c.penalties, penalties(), "terms of the loss that keep activations small");
  f.retired("activation_penalty", 0,
            "write penalties: [{type: activation_norm, weight: ...}] instead of this key");
  f("seed", c.seed,
    "of initialization, data order, masks, dropout and samples that are made on demand",
    at_least(0));
  f("shuffle", c.shuffle, "draw the samples in random order");
  f("initialize_from", c.initialize_from,
    "MODEL whose weights training starts from, and whose tokenizer it takes unless the section "
    "tokenizer asks for another");
  f("fresh_head", c.fresh_head,
    "initialize_from: draw the head afresh, for other classes or another vocabulary");
  f("log_every", c.log_every, "steps between lines of metrics.jsonl", at_least(1), OnResume::kFree);
  f("eval_every", c.eval_every, "steps, or 'N epochs', between evaluations; 0: only at the end",
    at_least(0), OnResume::kFree);
  f("checkpoint_every", c.checkpoint_every,
    "steps, or 'N epochs', between checkpoints; 0: only at the end", at_least(0), OnResume::kFree);
  f("keep_checkpoints", c.keep_checkpoints, "newest checkpoints that are kept; 0: all", at_least(0),
    OnResume::kFree);
}

void describe(config::Fields& f, EvalConfig& c) {
  f("batch_size", c.batch_size, "samples a batch", at_least(1));
  f("max_batches", c.max_batches, "stop after so many batches", at_least(1));
  f("outliers", c.outliers,
    "measure the activations' outliers; false: the loss alone, in less time");
  f("sinks", c.sinks, "measure how much attention the first key gets, over 100 sequences");
  f.require(c.outliers || !c.sinks, "sinks", "stands among the outliers: needs eval.outliers");
  f("kurtosis_batches", c.kurtosis_batches, "batches whose kurtosis is averaged", at_least(1));
  f("seed", c.seed, "of the masks, and of samples that are made on demand", at_least(0));
}

void describe(config::Fields& f, OutputConfig& c) {
  f("folder", c.folder, "run folder; default: runs/<name of the config file>");
  f("tensorboard", c.tensorboard, "write TensorBoard event files");
}

void describe(config::Fields& f, RunConfig& c) {
  f.variant("model", c.model, model_types(), "the model, in Hugging Face's own keys");
  f.section("attention", c.attention, "softmax and gate of the attention");
  f.variant("data", c.data, data_types(), "training and validation data");
  f.section("tokenizer", c.tokenizer, "how text becomes tokens");
  f.section("task", c.task, "what is learned");
  f.variant("optimizer", c.optimizer, optimizers(), "how gradients change the weights");
  f.section("schedule", c.schedule, "learning rate over time");
  f.section("train", c.train, "training");
  f("device", c.device, "auto: CUDA where there is one", one_of({"auto", "cpu", "cuda"}),
    OnResume::kFree);
  f("precision", c.precision, "fp32, or autocast with float32 master weights",
    one_of({"fp32", "bf16", "fp16"}));
  f.section("eval", c.eval, "evaluation", OnResume::kFree);
  f.section("ptq", c.ptq, "quantization after training", OnResume::kFree);
  f.section("output", c.output, "where results go", OnResume::kFree);
}

std::string RunConfig::task_type() const {
  return task.objective ? *task.objective : model->traits().task;
}

void RunConfig::check_task() const {
  const std::string task = model->traits().task;
  if (task_type() != task)
    fail_usage("task.objective: expected ", task, " for model.type ", model->type(), ", got ",
               task_type());
}

void RunConfig::check_tokenizer_path() const {
  if (tokenizer.path && !fs::exists(expand_variables(*tokenizer.path)))
    fail_usage("tokenizer.path: '", *tokenizer.path, "' does not exist");
}

DataContext RunConfig::data_context() const {
  return {task_type(), task.mlm_probability, tokenizer, nullptr};
}

std::shared_ptr<const Tokenizer> RunConfig::starting_tokenizer() const {
  if (!train.initialize_from || !data->uses_tokenizer()) return nullptr;
  const std::string folder = model_folder(expand_variables(*train.initialize_from)).string();
  std::shared_ptr<const Tokenizer> own = find_tokenizer(folder);
  if (!own) return nullptr;
  if (config::write(tokenizer) == config::write(TokenizerConfig())) {
    log_info("tokenizer: that of train.initialize_from, " + folder);
    return own;
  }
  const std::string asked =
      tokenizer.path ? load_tokenizer(expand_variables(*tokenizer.path))->hash() : "";
  if (asked != own->hash())
    log_warning(concat("the section tokenizer asks for another tokenizer than that of ", folder,
                       " (", own->vocab_size(),
                       " tokens): the model's embeddings were learned for that one"));
  return nullptr;
}

namespace {

void check_takes_text(const ModelConfig& model) {
  if (model.image_side() > 0)
    fail_usage("data: expected images for model.type ", model.type(), ", got text");
}

void check_sequence_length(const ModelConfig& model, int64_t length) {
  check_takes_text(model);
  if (length > model.max_positions())
    fail_usage("data.max_seq_length: expected at most the model's ", model.max_positions(),
               " positions, got ", length);
}

}  // namespace

void RunConfig::check_data(const DataConfig& data) const {
  data.check_task(task_type());
  if (data.sequence_length() > 0) check_sequence_length(*model, data.sequence_length());
}

void RunConfig::fit(const OpenedData& opened) const {
  const int64_t image_side = model->image_side();
  if (image_side == 0 && opened.max_seq_length == 0)
    fail_usage("data: expected text for model.type ", model->type(), ", got images");
  if (opened.max_seq_length > 0) check_takes_text(*model);
  if (opened.source) opened.source->check_fits(model->limits());
  if (opened.max_seq_length > 0) check_sequence_length(*model, opened.max_seq_length);
  if (opened.vocabulary_or_classes > 0) model->fit(opened.vocabulary_or_classes);
  if (opened.image_size > 0 && opened.image_size != image_side)
    fail_usage("data.images.image_size: expected the model's ", image_side, ", got ",
               opened.image_size);
}

void RunConfig::resolve_epochs(int64_t samples) {
  const int64_t samples_per_step = train.batch_size * train.gradient_accumulation_steps;
  for (const auto& [key, steps] :
       {std::pair{"train.steps", &train.steps},
        {"train.eval_every", &train.eval_every},
        {"train.checkpoint_every", &train.checkpoint_every},
        {"schedule.warmup_steps", &schedule.warmup_steps},
        {"schedule.steps", schedule.steps ? &*schedule.steps : nullptr}}) {
    if (steps == nullptr) continue;
    if (samples == kEndless && !steps->known())
      fail_usage(key, ": expected a number of steps, since the training data never ends, got ",
                 dump(steps->to_json()));
    steps->resolve(samples, samples_per_step);
  }
  check_warmup();
}

void RunConfig::check_warmup() const {
  const config::Steps& warmup = schedule.warmup_steps;
  for (const auto& [key, steps] : {std::pair{"train.steps", train.steps},
                                   {"schedule.steps", schedule.steps.value_or(train.steps)}})
    if (warmup.known() && steps.known() && static_cast<int64_t>(warmup) > steps)
      fail_usage("schedule.warmup_steps: expected at most the ", static_cast<int64_t>(steps),
                 " of ", key, ", got ", static_cast<int64_t>(warmup));
}

namespace {

void validate_data(const RunConfig& config) {
  if (config.data) config.data->validate();
  for (const auto& [key, data] : {std::pair{"calibration", config.ptq.calibration.data},
                                  {"evaluation", config.ptq.evaluation.data}}) {
    try {
      if (data) data->validate();
    } catch (const UsageError& error) {
      fail_usage("ptq.", key, ".", error.what());
    }
  }
}

// What stands behind a run's values and cannot be seen in one of them: files, and what fits
// together.
void validate_run(const RunConfig& config, bool from_run_folder) {
  config.check_task();
  config.check_warmup();
  config.data->check_batch_size(config.train.batch_size);
  config.check_data(*config.data);
  const std::optional<std::string>& from = config.train.initialize_from;
  if (from && !from_run_folder && !fs::exists(expand_variables(*from)))  // else it has the weights
    fail_usage("train.initialize_from: '", expand_variables(*from), "' does not exist");
  if (!from_run_folder) config.check_tokenizer_path();  // else its checkpoints have it
}

// "data.files: ..." with the file and line of data.files, or of as much of it as was written.
std::string with_place(const config::Node& root, const std::string& message) {
  const config::Node* node = &root;
  for (const std::string& part : config::split_key(message.substr(0, message.find(':')))) {
    const config::Node* inner = node->is_map() ? node->find(part) : nullptr;
    if (!inner) break;
    node = inner;
  }
  return node == &root ? message : node->place.to_string() + ": " + message;
}

template <class Validate>
void with_places(const config::Node& root, const Validate& validate) {
  try {
    validate();
  } catch (const UsageError& error) {
    fail_usage(with_place(root, error.what()));
  }
}

}  // namespace

std::string changes(const Json& was, const Json& is) {
  std::string all;
  for (const config::Difference& change : config::differences(was, is))
    if (!change.is.is_null() || !change.key.starts_with("model."))
      all += concat(all.empty() ? "" : "; ", change.key, " was ", dump(change.was), ", now ",
                    dump(change.is));
  return all;
}

RunConfig read_run_config(const config::Node& node) {
  RunConfig config;
  config::read(node, config);
  with_places(node, [&] { validate_data(config); });
  return config;
}

RunConfig load_run_config(const std::string& path, const std::vector<std::string>& assignments) {
  const bool run_folder = fs::is_directory(path);
  config::Node node = config::load(run_folder ? (fs::path(path) / "config.yaml").string() : path);
  for (const std::string& assignment : assignments) config::set(node, assignment);
  RunConfig config = read_run_config(node);
  if (!config.model) fail_usage(path, ": model: expected a section with a `type`, got none");
  if (!config.data) fail_usage(path, ": data: expected a section with a `type`, got none");
  if (!config.train.max_grad_norm)
    config.train.max_grad_norm = config.task_type() == "classification" ? 0 : 1;
  with_places(node, [&] { validate_run(config, run_folder); });
  return config;
}

}  // namespace quench
