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
  std::string model, data, output;
  std::vector<std::string> assignments;
  std::optional<int64_t> batch_size;
  bool json = false;
};

BatchSourcePtr open_source(const ModelArgument& model, const Options& options, RunConfig& config) {
  if (options.data.ends_with(".safetensors")) {
    config = config_of(model, "", options.assignments);
    return open_tensors(options.data);
  }
  config = config_of(model, options.data, options.assignments);
  if (!config.data)
    throw UsageError(
        concat(options.model,
               " lies in no run folder, so give --data FILE.safetensors or a config with a "
               "data section"));
  DataContext context = config.data_context();
  context.tokenizer = model.tokenizer;
  return config.data->open(Subset::kValidation, context).source;
}

std::string summary(const Json& result) {
  const Json& outliers = result.at("outliers");
  const bool classes = result.contains("accuracy");
  const auto number = [](double x, int digits) { return mean_std(std::vector<double>{x}, digits); };
  Table table;
  table.columns = {{classes ? "accuracy" : "perplexity", Align::kRight},
                   {"loss", Align::kRight},
                   {"max inf norm", Align::kRight},
                   {"avg kurtosis", Align::kRight},
                   {"samples", Align::kRight}};
  table.rows = {{number(classes ? 100 * result.at("accuracy").get<double>()
                                : result.at("perplexity").get<double>(),
                        2),
                 number(result.at("loss"), 4), number(outliers.at("max_inf_norm"), 1),
                 number(outliers.at("avg_kurtosis"), 1),
                 std::to_string(result.at("samples").get<int64_t>())}};
  return to_text(table);
}

}  // namespace

void add_eval(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("eval", "evaluate a model and measure its outliers");
  command->add_option("MODEL", options->model, "checkpoint folder or run folder")->required();
  command->add_option("--data", options->data,
                      "safetensors file, or a config whose data section is used");
  command->add_option("--batch-size", options->batch_size, "samples a batch")
      ->check(CLI::PositiveNumber);
  add_assignments(*command, options->assignments);
  command->add_option("--output", options->output,
                      "write the JSON result here; default: a summary on stdout");
  command->add_flag("--json", options->json, "print the JSON result");
  command->callback([options] {
    const ModelArgument model = open_model(options->model);
    RunConfig config;
    const BatchSourcePtr source = open_source(model, *options, config);
    EvaluationOptions evaluation;
    evaluation.batch_size = options->batch_size.value_or(config.eval.batch_size);
    evaluation.max_batches = config.eval.max_batches;
    evaluation.kurtosis_batches = config.eval.kurtosis_batches;
    evaluation.seed = static_cast<uint64_t>(config.eval.seed);
    evaluation.device = choose_device(config.device);
    evaluation.precision = config.precision;
    model.pretrained.model->parameters.to(evaluation.device, at::kFloat);
    const Json result = evaluate(model.pretrained, *source, evaluation).to_json();
    if (!options->output.empty()) write_output(options->output, dump(result, 2) + "\n");
    if (options->json) {
      write_output("", dump(result, 2) + "\n");
    } else if (options->output != "-") {
      write_output("", summary(result));
    }
    check_finite(result);
  });
}

}  // namespace quench
