// The subcommands, one file each: parse flags, call one function below, print.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "batches/data_config.h"
#include "models/pretrained.h"
#include "run/config.h"

namespace quench {

// Each adds its subcommand; the callback runs it and throws Error, or Exit for a status other than
// 0.
void add_train(CLI::App& app);
void add_eval(CLI::App& app);
void add_ptq(CLI::App& app);
void add_sweep(CLI::App& app);
void add_forward(CLI::App& app);
void add_tokenizer(CLI::App& app);
void add_data(CLI::App& app);
void add_convert(CLI::App& app);
void add_config(CLI::App& app);
void add_doctor(CLI::App& app);

// A flag's integer from `least` on.
CLI::Validator at_least(int64_t least);
CLI::Validator between(int64_t least, int64_t most);

struct Exit {
  int status;
};

// Adds --set, which takes one value each time.
void add_assignments(CLI::App& command, std::vector<std::string>& assignments,
                     const std::string& help = "KEY=VALUE: overrides a config value; repeatable");

struct ModelOptions {
  std::string model;
  std::vector<std::string> assignments;  // of the model's own sections, and of its run's config
  bool allow_partial = false;
};
// Adds MODEL, --set and --allow-partial.
void add_model(CLI::App& command, ModelOptions& options);

// A MODEL argument with what belongs to it: its run's config if it lies in a run folder, and its
// tokenizer if it has one.
struct ModelArgument {
  Pretrained pretrained;
  std::optional<std::filesystem::path> run;  // the run folder
  std::shared_ptr<const Tokenizer> tokenizer;
};
ModelArgument open_model(const ModelOptions& options);

// The config of the run that a model belongs to, overlaid with `overlay` (a file; may be empty) and
// the assignments that are not the model's. Throws UsageError where text would have to be tokenized
// and nothing says how.
RunConfig config_of(const ModelArgument& model, const std::string& overlay,
                    const std::vector<std::string>& assignments);

// Cells of a table: accuracy in % or perplexity, maximum infinity norm, average kurtosis.
std::vector<std::string> figures(const Json& evaluation);

// Whether an --output asks for stdout.
bool is_stdout(const std::string& path);

// Throws Error if write_output() could not write to `path`: called before the work.
void check_writable(const std::string& path);

// Writes `content` to stdout ("" or "-") or to a file. If the file cannot be written, `content`
// goes to stdout all the same, and the Error follows.
void write_output(const std::string& path, const std::string& content);

}  // namespace quench
