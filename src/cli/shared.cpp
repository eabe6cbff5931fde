#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <iostream>
#include <iterator>
#include <limits>
#include <system_error>

#include "base/error.h"
#include "cli/commands.h"
#include "eval/evaluator.h"
#include "io/atomic_file.h"
#include "report/table.h"

namespace quench {

namespace fs = std::filesystem;

namespace {

// The section that a KEY=VALUE is for.
std::string section_of(const std::string& assignment) {
  return assignment.substr(0, assignment.find_first_of(".="));
}

// Whether that is one that a checkpoint brings itself.
bool is_of_model(const std::string& assignment) {
  const std::string section = section_of(assignment);
  return section == "model" || section == "attention" || section == "max_seq_length";
}

}  // namespace

void add_assignments(CLI::App& command, std::vector<std::string>& assignments,
                     const std::string& help) {
  command.add_option("--set", assignments, help)->allow_extra_args(false);
}

static CLI::Validator integer(int64_t least, int64_t most, const std::string& expected) {
  return CLI::Validator(
      [=](const std::string& text) -> std::string {
        int64_t value = 0;
        const char* const end = text.data() + text.size();
        const auto [rest, error] = std::from_chars(text.data(), end, value);
        return error == std::errc() && rest == end && value >= least && value <= most
                   ? ""
                   : concat("expected ", expected, ", got ", text);
      },
      expected);
}

CLI::Validator at_least(int64_t least) {
  return integer(least, std::numeric_limits<int64_t>::max(), concat("an integer >= ", least));
}

CLI::Validator between(int64_t least, int64_t most) {
  return integer(least, most, concat("an integer from ", least, " to ", most));
}

void add_model(CLI::App& command, ModelOptions& options) {
  command
      .add_option("MODEL", options.model,
                  "run folder, or folder with config.json and model.safetensors or "
                  "pytorch_model.bin")
      ->required();
  add_assignments(command, options.assignments,
                  "KEY=VALUE: overrides a config value, or says what the checkpoint does not, as "
                  "attention.softmax.type=clipped; repeatable");
  command.add_flag(
      "--allow-partial", options.allow_partial,
      "draw missing parameters afresh and ignore tensors that the model does not have");
}

ModelArgument open_model(const ModelOptions& options) {
  std::vector<std::string> assignments;
  std::ranges::copy_if(options.assignments, std::back_inserter(assignments), is_of_model);
  ModelArgument argument;
  argument.pretrained = load_pretrained(options.model, options.allow_partial, assignments);
  const fs::path above = fs::canonical(argument.pretrained.folder).parent_path().parent_path();
  for (const fs::path& run : {fs::path(options.model), above})  // above: <run>/checkpoints/step-...
    if (fs::exists(run / "config.yaml") && !argument.run) argument.run = run;
  argument.tokenizer = find_tokenizer(argument.pretrained.folder.string());
  return argument;
}

RunConfig config_of(const ModelArgument& model, const std::string& overlay,
                    const std::vector<std::string>& assignments) {
  config::Node node;
  node.kind = config::Node::Kind::kMap;
  if (model.run) node = config::load((*model.run / "config.yaml").string());
  if (model.tokenizer && std::ranges::count(assignments, "tokenizer", section_of) > 0)
    fail_usage("--set tokenizer: ", model.pretrained.folder.string(),
               " has its own, the one that the model was trained with");
  if (!overlay.empty()) config::merge(node, config::load(overlay));
  for (const std::string& assignment : assignments)
    if (!is_of_model(assignment)) config::set(node, assignment);
  RunConfig config = read_run_config(node);
  config.model = model.pretrained.config;
  config.attention = model.pretrained.attention;
  config.check_task();
  for (const auto& data : {config.data, config.ptq.calibration.data, config.ptq.evaluation.data}) {
    if (!data) continue;
    config.check_data(*data);
    if (!data->uses_tokenizer() || model.tokenizer) continue;
    if (!config.tokenizer.path)
      fail_usage(model.pretrained.folder.string(),
                 " has no tokenizer, and the data is text: give the one that the model "
                 "was trained with, --set tokenizer.path=PATH");
    config.check_tokenizer_path();
  }
  return config;
}

std::vector<std::string> figures(const Json& evaluation) {
  const auto number = [](double x, int digits) { return mean_std(std::vector<double>{x}, digits); };
  const auto outliers = evaluation.find("outliers");
  if (outliers == evaluation.end()) return {number(headline(evaluation), 2), "-", "-"};
  return {number(headline(evaluation), 2), number(outliers->at("max_inf_norm"), 1),
          number(outliers->at("avg_kurtosis"), 1)};
}

bool is_stdout(const std::string& path) { return path == "-" || path == "/dev/stdout"; }

void check_writable(const std::string& path) {
  if (path.empty() || is_stdout(path)) return;
  std::error_code none;
  const bool special = std::filesystem::exists(path, none) &&
                       !std::filesystem::is_regular_file(path, none) &&
                       !std::filesystem::is_directory(path, none);
  if (!special) {
    AtomicFile unused(path);  // a pipe must not be opened twice: its reader would see an end
  } else if (::access(path.c_str(), W_OK) != 0) {
    fail("cannot write ", path, ": ", std::generic_category().message(errno));
  }
}

void write_output(const std::string& path, const std::string& content) {
  if (path.empty() || is_stdout(path)) {
    std::cout << content << std::flush;
    check(std::cout.good(), "cannot write to stdout");
    return;
  }
  try {
    write_file_atomically(path, content);
  } catch (const Error&) {
    std::cout << content << std::flush;  // the work of hours, perhaps
    throw;
  }
}

}  // namespace quench
