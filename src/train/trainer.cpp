#include "train/trainer.h"

#include <ATen/ATen.h>

#include <chrono>
#include <cmath>
#include <cstdio>

#include "base/environment.h"
#include "base/error.h"
#include "base/log.h"
#include "base/progress.h"
#include "base/signals.h"
#include "base/text.h"
#include "batches/loader.h"
#include "device/device.h"
#include "eval/evaluator.h"
#include "io/atomic_file.h"
#include "models/names.h"
#include "train/checkpoint.h"
#include "train/metrics_log.h"
#include "train/run_folder.h"
#include "train/session.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// Messages go to this file too, for as long as the object lives.
class LogFile {
 public:
  LogFile(const fs::path& path, bool append) { set_log_file(path, append); }
  ~LogFile() { set_log_file({}, false); }
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;
};

// What the curves show of an evaluation.
Json summary(const Json& evaluation) {
  Json summary = {{"eval_loss", evaluation.at("loss")}};
  for (const char* key : {"perplexity", "accuracy", "top5_accuracy"})
    if (evaluation.contains(key)) summary[key] = evaluation.at(key);
  if (const auto outliers = evaluation.find("outliers"); outliers != evaluation.end())
    for (const char* key : {"max_inf_norm", "avg_kurtosis", "max_kurtosis"})
      summary[key] = outliers->at(key);
  if (const Json ratio = largest_ratio(evaluation); !ratio.is_null())
    summary["max_to_median"] = ratio;
  if (const Json::json_pointer rate("/outliers/sinks/rate"); evaluation.contains(rate))
    summary["sink_rate"] = evaluation.at(rate);
  return summary;
}

// A resumed run keeps the tokenizer that lies in its checkpoint. The config may name the place
// where that was read from, or moved to, but no other one.
void check_same_tokenizer(const RunConfig& config, const Tokenizer* own,
                          const fs::path& checkpoint) {
  if (own == nullptr || !config.tokenizer.path) return;
  const std::string path = expand_variables(*config.tokenizer.path);
  if (fs::exists(path) && load_tokenizer(path)->hash() != own->hash())
    fail_usage("tokenizer.path: ", path, " is another tokenizer than that of ", checkpoint.string(),
               ", with which the run began; a run that is resumed keeps it");
}

// Everything that lives as long as a run.
class Run {
 public:
  Run(RunConfig config, const RunFolder& folder, const std::optional<StepFolder>& start);
  void announce() const;
  int train();

 private:
  void loop(MetricsLog& metrics);
  void log(MetricsLog& metrics, const StepResult& result);
  Json evaluate_now(const std::string& label) const;
  void evaluate_on_the_way(MetricsLog& metrics);
  bool save();
  void save_last();
  void restart_clock();
  bool due(int64_t every) const { return every > 0 && session_->steps_done() % every == 0; }
  int64_t step() const { return session_->steps_done(); }
  int64_t samples_per_step() const {
    return config_.train.batch_size * config_.train.gradient_accumulation_steps;
  }

  RunConfig config_;
  const RunFolder& folder_;
  OpenedData training_, validation_;
  Pretrained pretrained_;
  std::unique_ptr<TrainingSession> session_;
  std::optional<CheckpointWriter> writer_;
  std::optional<int64_t> saved_;  // step of the newest checkpoint
  // Since the last log line: of the steps' losses by their weights, float64, 0-dim, on the device;
  // and of the weights.
  at::Tensor loss_sum_;
  int64_t loss_count_ = 0;
  int64_t samples_ = 0;  // taken from the endless stream of training samples
  std::chrono::steady_clock::time_point clock_start_;
  int64_t clock_step_ = 0;  // steps done when the clock was started
};

Run::Run(RunConfig config, const RunFolder& folder, const std::optional<StepFolder>& start)
    : config_(std::move(config)), folder_(folder) {
  const at::Device device = choose_device(config_.device);
  DataContext context = config_.data_context();
  context.tokenizer = start ? find_tokenizer(start->path.string()) : config_.starting_tokenizer();
  if (start) check_same_tokenizer(config_, context.tokenizer.get(), start->path);
  training_ = config_.data->open(Subset::kTrain, context);
  context.tokenizer = training_.tokenizer;
  validation_ = config_.data->open(Subset::kValidation, context);
  config_.resolve_epochs(training_.source->samples());
  if (start && start->step > config_.train.steps)
    fail_usage(start->path.string(), " has done ", start->step, " steps, and train.steps asks for ",
               static_cast<int64_t>(config_.train.steps),
               ": ask for more, or go back with --resume-from STEP");
  pretrained_ = build_model(config_, training_, start ? Weights::kUndefined : Weights::kInitial);
  pretrained_.class_names = training_.source->class_names();
  pretrained_.image_processor = training_.image_processor;
  session_ = std::make_unique<TrainingSession>(config_, pretrained_, device);
  loss_sum_ = at::zeros({}, at::device(device).dtype(at::kDouble));
  if (start) {
    TrainingState state = session_->state();
    load_checkpoint(start->path, pretrained_, state);
    session_->resume(state);
    if (!state.data.empty() && state.data != training_.identity)
      fail_usage(folder_.path().string(),
                 " was trained on other data: the content of the training data was ", state.data,
                 ", now ", training_.identity, "; a run that is resumed goes on with the same");
    if (!state.validation_data.empty() && state.validation_data != validation_.identity)
      log_warning(
          "the validation data is not what it was: evaluations before and after this resume "
          "cannot be compared");
    saved_ = state.step;
    samples_ = state.samples > 0 ? state.samples : step() * samples_per_step();
    loss_sum_.fill_(state.loss_sum);
    loss_count_ = state.loss_count;
  }
  config_.fit(validation_);
  check_inputs(*training_.source, pretrained_);
  check_inputs(*validation_.source, pretrained_);
  writer_.emplace(folder_.path(), pretrained_, training_.tokenizer.get(),
                  config_.train.keep_checkpoints);
}

void Run::announce() const {
  if (step() > 0) log_info(concat("resuming after step ", step()));
  log_info(concat(config_.model->type(), ", ", pretrained_.model->parameters.count(),
                  " parameters, ", dump(config::write(config_.attention)), ", on ",
                  session_->device(), ", ", config_.precision));
  if (const std::optional<double> least = training_.source->optimal_loss())
    log_info(concat("the least loss that a model can expect on this data is ", *least));
}

Json Run::evaluate_now(const std::string& label) const {
  const TrainingSession::Averaged averaged(*session_);
  EvaluationOptions options = evaluation_options(config_);
  options.label = label;
  return evaluate(pretrained_, *validation_.source, options).to_json();
}

void Run::evaluate_on_the_way(MetricsLog& metrics) {
  metrics.add(step(), "eval", summary(evaluate_now("")));
  restart_clock();
}

// False where the disk has no room.
bool Run::save() {
  session_->check_finite();
  const TrainingSession::Averaged averaged(*session_);
  TrainingState state = session_->state();
  state.loss_sum = loss_sum_.item<double>();
  state.loss_count = loss_count_;
  state.samples = samples_;
  state.data = training_.identity;
  state.validation_data = validation_.identity;
  if (!writer_->write(state)) return false;
  saved_ = step();
  return true;
}

// The last chance for this step: it is on the disk afterwards.
void Run::save_last() {
  if (saved_ != step() && !save())
    fail("the weights of step ", step(), " could not be saved: there is no room in ",
         folder_.path().string());
  writer_->finish();
}

void Run::restart_clock() {
  clock_start_ = std::chrono::steady_clock::now();
  clock_step_ = step();
}

void Run::log(MetricsLog& metrics, const StepResult& result) {
  session_->check_finite();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - clock_start_;
  const double seconds = elapsed.count();
  const double samples = static_cast<double>((step() - clock_step_) * samples_per_step());
  Json line = {{"loss", loss_sum_.item<double>() / static_cast<double>(loss_count_)},
               {"gradient_norm", result.gradient_norm.item<double>()},
               {"learning_rate", result.learning_rate.item<double>()},
               {"samples_per_second", samples / seconds}};
  if (training_.max_seq_length > 0)
    line["tokens_per_second"] = samples * static_cast<double>(training_.max_seq_length) / seconds;
  metrics.add(step(), "train", line);
  loss_sum_.zero_();
  loss_count_ = 0;
  restart_clock();
}

void Run::loop(MetricsLog& metrics) {
  const TrainConfig& t = config_.train;
  TrainingOrder order;
  order.batch_size = t.batch_size;
  order.seed = static_cast<uint64_t>(t.seed);
  order.shuffle = t.shuffle;
  Loader loader(training_batches(training_.source, order), session_->device(),
                samples_ / t.batch_size,
                /*ahead=*/static_cast<size_t>(t.gradient_accumulation_steps) + 2);

  const bool text = training_.max_seq_length > 0;
  const double units =
      static_cast<double>(samples_per_step() * (text ? training_.max_seq_length : 1));
  auto progress =
      std::make_unique<Progress>("train", t.steps, text ? "tokens" : "images", units, step());
  restart_clock();
  char detail[32] = "";
  // A signal may have come while this step was evaluated.
  if (due(t.eval_every) && step() > 0 && step() < t.steps && !metrics.evaluated())
    evaluate_on_the_way(metrics);
  while (step() < t.steps) {
    stop_if_signalled();
    writer_->poll();
    const StepResult result = session_->step([&] { return loader.next().value(); });
    samples_ += samples_per_step();
    if (result.weight > 0) loss_sum_ += result.loss * static_cast<double>(result.weight);
    loss_count_ += result.weight;
    const bool last = step() == t.steps;
    if (session_->device().is_cpu() || due(t.log_every))
      std::snprintf(detail, sizeof detail, "loss %.3f", result.loss.item<double>());
    progress->update(step(), detail);
    if (due(t.log_every) || last) log(metrics, result);
    if (due(t.eval_every) && !last) evaluate_on_the_way(metrics);
    if (due(t.checkpoint_every) && !last) save();
  }
  progress->finish();
  save_last();
}

int Run::train() {
  const bool finished = step() == config_.train.steps;
  if (finished && fs::exists(folder_.path() / "eval.json")) {
    log_info(concat("its ", step(), " steps are done already; there is nothing to train"));
    return 0;
  }
  if (!finished) folder_.set_results_aside(step());
  MetricsLog metrics(folder_.path(), step(), finished, config_.output.tensorboard);
  try {
    loop(metrics);
    const Json evaluation = evaluate_now("evaluate");
    metrics.add(step(), "eval", summary(evaluation));
    write_file_atomically(folder_.path() / "eval.json", dump(evaluation, 2) + "\n");
    check_finite(evaluation);
    return 0;
  } catch (const Interrupted& interrupted) {
    save_last();
    log_warning(concat("stopped by a signal after step ", step(),
                       "; a checkpoint was written: continue with --resume"));
    return interrupted.signal;
  }
}

void check_head(const ModelConfig& from, const ModelConfig& model, const std::string& folder) {
  const int64_t theirs = from.vocabulary_or_classes(), ours = model.vocabulary_or_classes();
  if (model.image_side() > 0 && from.image_side() > 0 && theirs != ours)
    fail_usage("train.initialize_from: ", folder, " has ", theirs, " classes, the data ", ours,
               ": train.fresh_head=true draws a head for these");
}

// Copies what the checkpoint `from` has. Only a head and what a cure adds may be new: returns their
// names.
std::vector<std::string> initialize_from(const RunConfig& config,
                                         const std::vector<std::string>& class_names,
                                         Parameters& parameters) {
  const std::string folder = expand_variables(*config.train.initialize_from);
  const std::string body = config.model->traits().body_prefix;
  // What its own model has no use for (another head) is none of ours either.
  const Pretrained pretrained = load_pretrained(folder, /*allow_partial=*/true);
  std::map<std::string, at::Tensor> values;
  for (auto& [name, value] : pretrained.model->parameters.named_values()) values[name] = value;
  for (const std::string& name : pretrained.fresh) values.erase(name);  // ours follow train.seed
  if (config.train.fresh_head) {
    std::erase_if(values, [&](const auto& entry) { return !entry.first.starts_with(body); });
  } else {
    check_head(*pretrained.config, *config.model, folder);
    check_class_order(class_names, pretrained);
  }
  const auto [missing, unexpected] = [&] {
    try {
      return load_values(parameters, values, /*allow_partial=*/true);
    } catch (const Error& error) {
      fail("train.initialize_from: ", folder, ": ", error.what());
    }
  }();
  check(unexpected.size() < values.size(), "train.initialize_from: ", folder,
        " has no parameter of this model");
  if (!missing.empty())
    log_info(concat("not in ", folder, ", freshly drawn: ", listed(missing, 8)));
  std::vector<std::string> lacking = missing;
  std::erase_if(lacking,
                [&](const auto& name) { return !name.starts_with(body) || is_added(name); });
  check(lacking.empty(), "train.initialize_from: ", folder, " lacks ", listed(lacking, 8));
  check(unexpected.empty(), "train.initialize_from: this model lacks what ", folder,
        " has: ", listed(unexpected, 8));
  return missing;
}

}  // namespace

Pretrained build_model(const RunConfig& config, const OpenedData& data, Weights weights) {
  Pretrained pretrained;
  pretrained.config = config.model;
  pretrained.attention = config.attention;
  config.fit(data);
  if (data.special_tokens) config.model->fit_special_tokens(*data.special_tokens);
  if (config.model->vocabulary_or_classes() == 0)
    fail_usage(
        "model: the number of classes or tokens must be given, since the data does not tell");
  pretrained.max_seq_length =
      data.max_seq_length > 0 ? data.max_seq_length : config.model->max_positions();
  pretrained.model = config.model->build(config.attention, pretrained.max_seq_length);
  if (weights == Weights::kUndefined) return pretrained;
  Parameters& parameters = pretrained.model->parameters;
  const auto seed = static_cast<uint64_t>(config.train.seed);
  if (!config.train.initialize_from) {
    parameters.initialize(seed);
  } else {
    const std::vector<std::string> classes =
        data.source ? data.source->class_names() : std::vector<std::string>();
    parameters.initialize(seed, initialize_from(config, classes, parameters));
  }
  return pretrained;
}

int train(const RunConfig& config, const fs::path& path, const StartFrom& from) {
  catch_signals();
  const RunFolder folder(path);
  const std::optional<StepFolder> start = folder.start(from);
  if (start) folder.check_resumable(config);
  Run run(config, folder, start);
  // From here on it is this run's folder.
  if (start) folder.roll_back_to(start->step);
  if (!start && !from.resume) folder.set_files_aside();
  folder.check_evaluation(config);
  const LogFile log(path / "log.txt", /*append=*/start.has_value());
  write_file_atomically(path / "config.yaml", config::to_yaml(config::write(config)));
  run.announce();
  return run.train();
}

}  // namespace quench
