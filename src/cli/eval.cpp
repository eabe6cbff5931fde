#include <cmath>

#include "base/error.h"
#include "base/log.h"
#include "batches/tensors.h"
#include "cli/commands.h"
#include "eval/evaluator.h"
#include "report/table.h"

namespace quench {
namespace {

struct Options {
  ModelOptions model;
  std::string data, output;
  std::optional<int64_t> batch_size;
  bool json = false;
};

OpenedData open_data(const ModelArgument& model, const Options& options, RunConfig& config) {
  const bool tensors = options.data.ends_with(".safetensors");
  config = config_of(model, tensors ? "" : options.data, options.model.assignments);
  if (tensors) return open_tensors(options.data);
  if (!config.data)
    fail_usage(options.model.model,
               " lies in no run folder, so give --data FILE.safetensors or a config with a "
               "data section");
  DataContext context = config.data_context();
  context.tokenizer = model.tokenizer;
  return config.data->open(Subset::kValidation, context);
}

std::string summary(const Json& result) {
  Table table;
  table.columns = {{result.contains("accuracy") ? "accuracy" : "perplexity", Align::kRight},
                   {"max inf norm", Align::kRight},
                   {"avg kurtosis", Align::kRight},
                   {"loss", Align::kRight},
                   {"samples", Align::kRight}};
  table.rows = {figures(result)};
  table.rows[0].push_back(mean_std(std::vector<double>{result.at("loss")}, 4));
  table.rows[0].push_back(std::to_string(result.at("samples").get<int64_t>()));
  if (result.contains("top5_accuracy")) {
    table.columns.push_back({"top-5 accuracy", Align::kRight});
    table.rows[0].push_back(
        mean_std(std::vector<double>{100 * result.at("top5_accuracy").get<double>()}, 2));
  }
  return to_text(table);
}

}  // namespace

void add_eval(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("eval", "evaluate a model and measure its outliers");
  add_model(*command, options->model);
  command->add_option("--data", options->data,
                      "safetensors file, or a config whose data section is used");
  command->add_option("--batch-size", options->batch_size, "samples a batch")->check(at_least(1));
  command->add_option("--output", options->output,
                      "write the JSON result here; default: a summary on stdout");
  command->add_flag("--json", options->json, "print the JSON result");
  command->callback([options] {
    check_writable(options->output);
    const ModelArgument model = open_model(options->model);
    RunConfig config;
    const OpenedData data = open_data(model, *options, config);
    config.fit(data);
    EvaluationOptions evaluation = evaluation_options(config);
    if (options->batch_size) evaluation.batch_size = *options->batch_size;
    model.pretrained.model->parameters.to(evaluation.device, at::kFloat);
    const Json result = evaluate(model.pretrained, *data.source, evaluation).to_json();
    if (!options->output.empty()) write_output(options->output, dump(result, 2) + "\n");
    if (is_stdout(options->output)) return check_finite(result);
    if (options->json) {
      write_output("", dump(result, 2) + "\n");
    } else {
      write_output("", summary(result));
    }
    check_finite(result);
  });
}

}  // namespace quench
