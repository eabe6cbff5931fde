#include "sweep/sweep.h"

#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "base/signals.h"
#include "device/device.h"
#include "io/atomic_file.h"
#include "ptq/ptq.h"
#include "sweep/results.h"
#include "train/run_folder.h"
#include "train/trainer.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

std::string slug(const std::string& name) {
  std::string out;
  for (const unsigned char c : name) {
    if (std::isalnum(c)) {
      out += static_cast<char>(std::tolower(c));
    } else if (!out.empty() && out.back() != '-') {
      out += '-';
    }
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return out;
}

// Whether no two results would lie in the same place.
template <class Entry>
bool have_own_folders(const std::vector<Entry>& entries) {
  std::set<std::string> slugs;
  for (const Entry& entry : entries) slugs.insert(slug(entry.name));
  return slugs.size() == entries.size();
}

template <class Value>
bool are_different(const std::vector<Value>& values) {
  return std::set<Value>(values.begin(), values.end()).size() == values.size();
}

std::vector<std::string> joined(const std::vector<std::string>& a,
                                const std::vector<std::string>& b,
                                const std::vector<std::string>& c = {}) {
  std::vector<std::string> all = a;
  all.insert(all.end(), b.begin(), b.end());
  all.insert(all.end(), c.begin(), c.end());
  return all;
}

class Sweep {
 public:
  Sweep(const SweepConfig& sweep, const std::vector<std::string>& assignments, fs::path folder)
      : sweep_(sweep), assignments_(assignments), folder_(std::move(folder)) {
    results_.baseline = sweep.baseline;
    for (const SweepRow& row : sweep.rows) results_.rows.emplace_back().name = row.name;
    for (const SweepEntry& setting : sweep.ptq) results_.settings.push_back(setting.name);
  }

  SweepOutcome run();

 private:
  RunConfig config(const SweepRow& row, int64_t seed,
                   const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all = joined(row.set, assignments_, more);
    all.push_back(concat("train.seed=", seed));
    return load_run_config(*row.base, all);
  }
  fs::path run_folder(size_t row, int64_t seed) const {
    return folder_ / concat(slug(sweep_.rows[row].name), "-seed", seed);
  }
  void cell(size_t row, int64_t seed);
  // What the training left.
  void measure(RowResult& result, const RunConfig& config, const fs::path& run,
               const Json& full) const;
  void quantize(size_t row, int64_t seed, const fs::path& run, const Json& full_precision);
  // A run's model and data, loaded when the first quantization needs them.
  struct Opened {
    std::optional<Pretrained> pretrained;
    std::map<std::string, PtqData> data;  // by the sections that say which
  };
  Json quantized(const RunConfig& config, const fs::path& run, const Json& full_precision,
                 const std::vector<int64_t>& bits, Opened& opened);
  void attempt(const std::string& name, const std::function<void()>& work);
  bool train_if_needed(const RunConfig& config, const fs::path& run);
  void write();
  SweepOutcome outcome() const;

  const SweepConfig& sweep_;
  std::vector<std::string> assignments_;
  fs::path folder_;
  SweepTable results_;
  std::vector<std::string> failures_;
};

// Of the curve in a result of PTQ.
std::vector<int64_t> bits_of(const Json& result) {
  std::vector<int64_t> bits;
  for (const Json& point : result.value("bits", Json::array())) bits.push_back(point.at("bits"));
  return bits;
}

// Whether the folder holds that run, at its end. Throws UsageError where it holds another one.
bool trained_before(const RunConfig& config, const fs::path& run) {
  if (!fs::exists(run / "config.yaml") || !fs::exists(run / "eval.json")) return false;
  RunConfig before = load_run_config(run.string(), {});
  before.output = config.output;
  before.ptq = config.ptq;
  const std::string changed = changes(config::write(before), config::write(config));
  if (!changed.empty())
    fail_usage(run.string(), " holds a run of another config (", changed,
               "): remove it, or choose another --output");
  return true;
}

// False if a signal stopped it.
bool Sweep::train_if_needed(const RunConfig& config, const fs::path& run) {
  if (trained_before(config, run)) {
    log_info(run.string() + ": trained before");
    return true;
  }
  return train(config, run, {.resume = fs::exists(run), .step = {}}) == 0;
}

void Sweep::cell(size_t row, int64_t seed) {
  const SweepRow& entry = sweep_.rows[row];
  const fs::path run = run_folder(row, seed);
  log_info(concat("== ", entry.name, ", seed ", seed, " (", run.string(), ")"));
  if (!train_if_needed(config(entry, seed), run)) return;
  const Json full = parse_json(read_file(run / "eval.json"));
  check_finite(full);
  measure(results_.rows[row], config(entry, seed), run, full);
  write();
  quantize(row, seed, run, full);
}

void Sweep::measure(RowResult& result, const RunConfig& config, const fs::path& run,
                    const Json& full) const {
  const int64_t seed = config.train.seed;
  result.full[seed] = {headline(full)};
  result.curves[seed] =
      read_training_curve(run, config.train.batch_size * config.train.gradient_accumulation_steps);
  const Pretrained model = load_architecture(model_folder(run.string()));
  result.parameters[seed] = {static_cast<double>(model.model->parameters.count())};
  const auto outliers = full.find("outliers");
  if (outliers == full.end()) return;
  result.inf_norm[seed] = {outliers->at("max_inf_norm")};
  result.kurtosis[seed] = {outliers->at("avg_kurtosis")};
  if (const Json ratio = largest_ratio(full); !ratio.is_null())
    result.max_to_median[seed] = {ratio};
  if (outliers->contains("sinks")) result.sink_rate[seed] = {outliers->at("sinks").at("rate")};
}

void Sweep::quantize(size_t row, int64_t seed, const fs::path& run, const Json& full) {
  Opened opened;
  const std::string checkpoint = model_folder(run.string()).filename().string();
  fs::create_directories(run / "ptq");
  for (const SweepEntry& setting : sweep_.ptq) {
    for (const int64_t ptq_seed : sweep_.ptq_seeds) {
      if (caught_signal()) return;
      const fs::path file = run / "ptq" / concat(slug(setting.name), "-seed", ptq_seed, ".json");
      const RunConfig c =
          config(sweep_.rows[row], seed, joined(setting.set, {concat("ptq.seed=", ptq_seed)}));
      attempt(
          concat(sweep_.rows[row].name, ", seed ", seed, ", ", setting.name, ", seed ", ptq_seed),
          [&] {
            Json done =
                fs::exists(file) ? parse_json(read_file(file), /*allow_exceptions=*/false) : Json();
            const bool first = &setting == &sweep_.ptq.front();
            const std::vector<int64_t> bits = first ? sweep_.bits : std::vector<int64_t>();
            const bool valid = done.is_object() && done.value("checkpoint", "") == checkpoint &&
                               done.value("settings", Json()) == config::write(c.ptq) &&
                               bits_of(done) == bits;
            if (!valid) {
              done = quantized(c, run, full, bits, opened);
              write_file_atomically(file, dump(done, 2) + "\n");
            }
            RowResult& result = results_.rows[row];
            result.quantized[setting.name][seed].push_back(headline(done.at("quantized")));
            if (!bits.empty())
              result.bits[setting.name].push_back(
                  {{"bits", done.at("bits")}, {"bits_within", done.at("bits_within")}});
          });
      write();
    }
  }
}

// What `quench ptq` writes.
Json Sweep::quantized(const RunConfig& c, const fs::path& run, const Json& full,
                      const std::vector<int64_t>& bits, Opened& opened) {
  std::optional<Pretrained>& pretrained = opened.pretrained;
  if (!pretrained) {
    pretrained = load_pretrained(run.string());
    pretrained->model->parameters.to(choose_device(c.device), at::kFloat);
  }
  const bool same_evaluation =
      !c.ptq.evaluation.data && c.ptq.evaluation.batch_size == c.eval.batch_size &&
      c.ptq.evaluation.max_batches == c.eval.max_batches && c.precision == "fp32" &&
      c.eval.outliers == full.contains("outliers") &&
      c.eval.sinks == full.contains(Json::json_pointer("/outliers/sinks"));
  const Json all = config::write(c);
  const std::string key = dump(Json::array({all.at("data"), all.at("task"), all.at("tokenizer"),
                                            all.at("ptq").at("calibration").at("data"),
                                            all.at("ptq").at("evaluation").at("data")}));
  if (!opened.data.contains(key))
    opened.data.emplace(key, open_ptq_data(c, find_tokenizer(pretrained->folder.string())));
  return quantize_and_evaluate(*pretrained, opened.data.at(key), c, bits,
                               same_evaluation ? std::optional(full) : std::nullopt);
}

// Runs a cell's training or quantization; a failure is noted, and the sweep goes on.
void Sweep::attempt(const std::string& name, const std::function<void()>& work) {
  try {
    work();
  } catch (const std::exception& error) {
    failures_.push_back(concat(name, ": ", error.what()));
    log_error(failures_.back());
  }
}

SweepOutcome Sweep::outcome() const {
  SweepOutcome outcome;
  outcome.table = to_table(results_, sweep_.title);
  outcome.json = {{"title", sweep_.title}, {"rows", to_json(results_)}, {"failed", failures_}};
  outcome.failed = static_cast<int>(failures_.size());
  outcome.interrupted_by = caught_signal();
  return outcome;
}

void Sweep::write() {
  const SweepOutcome now = outcome();
  write_file_atomically(folder_ / "table.txt", to_text(now.table));
  write_file_atomically(folder_ / "table.md", to_markdown(now.table));
  write_file_atomically(folder_ / "sweep.json", dump(now.json, 2) + "\n");
}

SweepOutcome Sweep::run() {
  catch_signals();
  const RunFolder folder(folder_);
  for (size_t row = 0; row < sweep_.rows.size(); ++row) {
    results_.rows[row].accuracy =
        config(sweep_.rows[row], sweep_.seeds.front()).task_type() == "classification";
    for (const int64_t seed : sweep_.seeds)  // before the table of earlier results is touched
      trained_before(config(sweep_.rows[row], seed), run_folder(row, seed));
  }
  for (size_t row = 0; row < sweep_.rows.size(); ++row) {
    for (const int64_t seed : sweep_.seeds) {
      if (caught_signal()) return outcome();
      attempt(concat(sweep_.rows[row].name, ", seed ", seed), [&] { cell(row, seed); });
    }
  }
  write();
  return outcome();
}

}  // namespace

void describe(config::Fields& f, SweepEntry& c) {
  f("name", c.name, "how the table calls it");
  f("set", c.set, "assignments over the base config: \"attention.softmax.type=clipped\"");
  f.require(!c.name.empty(), "name", "expected a name");
}

void describe(config::Fields& f, SweepRow& c) {
  describe(f, static_cast<SweepEntry&>(c));
  f("base", c.base, "config that its runs start from; default: the sweep's");
}

void describe(config::Fields& f, SweepConfig& c) {
  f("title", c.title, "above the table");
  f("base", c.base, "config that runs start from, relative to this file");
  f.list("rows", c.rows, "ways to train");
  f("seeds", c.seeds, "training seeds", config::at_least(0));
  f.list("ptq", c.ptq, "ways to quantize");
  f("ptq_seeds", c.ptq_seeds, "calibration seeds", config::at_least(0));
  f("bits", c.bits, "bits of activations that the first way to quantize is measured with, too",
    config::between(2, 16));
  f("baseline", c.baseline, "name of the row that others are compared with, seed by seed");
  f.require(!c.rows.empty(), "rows", "expected at least one way to train");
  f.require(!c.seeds.empty(), "seeds", "expected at least one seed");
  f.require(are_different(c.seeds), "seeds", "expected each once");
  f.require(are_different(c.ptq_seeds), "ptq_seeds", "expected each once");
  f.require(are_different(c.bits), "bits", "expected each once");
  f.require(c.bits.empty() || !c.ptq.empty(), "bits", "expected a way to quantize as well, in ptq");
  f.require(!c.baseline || std::ranges::count(c.rows, *c.baseline, &SweepRow::name) == 1,
            "baseline", "expected the name of a row");
  for (const SweepRow& row : c.rows)
    f.require(c.base || row.base, "base", "expected a config file, here or in every row");
  f.require(have_own_folders(c.rows), "rows", "two names make the same folder or file name");
  f.require(have_own_folders(c.ptq), "ptq", "two names make the same folder or file name");
}

SweepConfig load_sweep(const std::string& path, const std::vector<std::string>& assignments) {
  SweepConfig sweep;
  config::read(config::load(path), sweep);
  for (SweepRow& row : sweep.rows) {
    row.base = (fs::path(path).parent_path() / (row.base ? *row.base : *sweep.base)).string();
    load_run_config(*row.base, joined(row.set, assignments));
    for (const SweepEntry& setting : sweep.ptq)
      load_run_config(*row.base, joined(row.set, assignments, setting.set));
  }
  return sweep;
}

SweepOutcome run_sweep(const SweepConfig& sweep, const std::vector<std::string>& assignments,
                       const fs::path& folder) {
  return Sweep(sweep, assignments, folder).run();
}

}  // namespace quench
