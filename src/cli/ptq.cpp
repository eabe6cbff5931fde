#include <algorithm>
#include <cmath>
#include <filesystem>
#include <iterator>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "cli/commands.h"
#include "device/device.h"
#include "io/atomic_file.h"
#include "ptq/ptq.h"
#include "report/table.h"

namespace quench {
namespace {

struct Options {
  ModelOptions model;
  std::string config, output;
  std::vector<int64_t> bits;
  bool json = false;
};

std::string bits_name(const PtqConfig& ptq) {
  return concat("w", ptq.weights.enabled ? ptq.weights.bits : 32, "a",
                ptq.activations.enabled ? ptq.activations.bits : 32);
}

std::string summary(const Json& result, const std::string& name) {
  Table table;
  const Json &full = result.at("full_precision"), &quantized = result.at("quantized");
  table.columns = {{""},
                   {full.contains("accuracy") ? "accuracy" : "perplexity", Align::kRight},
                   {"max inf norm", Align::kRight},
                   {"avg kurtosis", Align::kRight}};
  for (const auto& [label, evaluation] :
       {std::pair{std::string("full precision"), full}, {name, quantized}}) {
    table.rows.push_back({label});
    std::ranges::copy(figures(evaluation), std::back_inserter(table.rows.back()));
  }
  return to_text(table);
}

std::string relative(double value, double to) {
  const double percent = std::round(1000 * (value / to - 1)) / 10;
  return concat(percent < 0 ? "" : "+", percent, " %");
}

// The curve over bits of activations, and what suffices.
std::string bits_table(const Json& result) {
  const Json& full = result.at("full_precision");
  const bool accuracy = full.contains("accuracy");
  Table table;
  table.columns = {{"activation bits", Align::kRight},
                   {accuracy ? "accuracy" : "perplexity", Align::kRight},
                   {"to full precision", Align::kRight}};
  for (const Json& point : result.at("bits"))
    table.rows.push_back({std::to_string(point.at("bits").get<int64_t>()),
                          mean_std(std::vector{headline(point)}, 2),
                          relative(headline(point), headline(full))});
  std::string text = "\n" + to_text(table) + "\n";
  for (const auto& [share, least] : result.at("bits_within").items())
    text += least.is_null()
                ? concat("none stays within ", share, " of full precision\n")
                : concat(least.get<int64_t>(), " bits stay within ", share, " of full precision\n");
  return text;
}

// Where the result goes; "" or "-": to stdout.
std::string output_file(const Options& options, const ModelArgument& model, const RunConfig& config,
                        const std::string& name) {
  if (!options.output.empty() || !model.run) return options.output;
  const std::filesystem::path folder = *model.run / "ptq";
  std::error_code failed;
  std::filesystem::create_directories(folder, failed);
  check(!failed, "cannot create ", folder.string(), ": ", failed.message());
  // Results of other settings, or of an earlier checkpoint, keep their names.
  const std::string stem = concat(name, "-seed", config.ptq.seed);
  std::filesystem::path file = folder / (stem + ".json");
  for (int n = 2; std::filesystem::exists(file); ++n) {
    const Json there = parse_json(read_file(file), /*allow_exceptions=*/false);
    if (there.is_object() && there.value("settings", Json()) == config::write(config.ptq) &&
        there.value("checkpoint", "") == model.pretrained.folder.filename())
      break;
    file = folder / concat(stem, "-", n, ".json");
  }
  return file.string();
}

}  // namespace

void add_ptq(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("ptq", "quantize a model after training and measure what is lost");
  add_model(*command, options->model);
  command->add_option("--config", options->config, "file whose sections overlay the run's config");
  command->add_option("--output", options->output,
                      "the JSON result; default: <run>/ptq/<name of --config, or "
                      "bits>-seed<seed>.json, or stdout where "
                      "there is no run");
  command
      ->add_option("--bits", options->bits,
                   "also measure with so many bits of activations each: 8,7,6,5,4")
      ->delimiter(',')
      ->check(between(2, 16));
  command->add_flag("--json", options->json, "print the JSON result");
  command->callback([options] {
    check_writable(options->output);
    if (std::set(options->bits.begin(), options->bits.end()).size() < options->bits.size())
      fail_usage("--bits: expected each number once");
    const ModelArgument model = open_model(options->model);
    const RunConfig config = config_of(model, options->config, options->model.assignments);
    std::string name = options->config.empty()
                           ? bits_name(config.ptq)
                           : std::filesystem::path(options->config).stem().string();
    for (const int64_t bits : options->bits)
      name += concat(bits == options->bits[0] ? "-bits-" : "-", bits);
    const std::string output = output_file(*options, model, config, name);
    check_writable(output);
    model.pretrained.model->parameters.to(choose_device(config.device), at::kFloat);
    const PtqData data = open_ptq_data(config, model.tokenizer);
    const Json result = quantize_and_evaluate(model.pretrained, data, config, options->bits);
    const bool to_stdout = output.empty() || is_stdout(output) || options->json;
    if (!output.empty() && !is_stdout(output)) write_output(output, dump(result, 2) + "\n");
    const std::string tables =
        summary(result, bits_name(config.ptq)) + (options->bits.empty() ? "" : bits_table(result));
    write_output("", to_stdout ? dump(result, 2) + "\n" : tables);
    if (!to_stdout) log_info("written to " + output);
  });
}

}  // namespace quench
