#include <filesystem>

#include "base/error.h"
#include "base/log.h"
#include "cli/commands.h"
#include "ptq/ptq.h"
#include "report/table.h"

namespace quench {
namespace {

struct Options {
  std::string model, config, output;
  std::vector<std::string> assignments;
  bool json = false;
};

std::string bits_name(const PtqConfig& ptq) {
  return concat("w", ptq.weights.enabled ? ptq.weights.bits : 32, "a",
                ptq.activations.enabled ? ptq.activations.bits : 32);
}

std::string summary(const Json& result, const std::string& name) {
  Table table;
  const bool classes = result.at("full_precision").contains("accuracy");
  table.columns = {{""},
                   {classes ? "accuracy" : "perplexity", Align::kRight},
                   {"max inf norm", Align::kRight},
                   {"avg kurtosis", Align::kRight}};
  for (const char* key : {"full_precision", "quantized"}) {
    const Json& r = result.at(key);
    const auto number = [](double x, int digits) {
      return mean_std(std::vector<double>{x}, digits);
    };
    table.rows.push_back(
        {key == std::string("quantized") ? name : "full precision",
         number(classes ? 100 * r.at("accuracy").get<double>() : r.at("perplexity").get<double>(),
                2),
         number(r.at("outliers").at("max_inf_norm"), 1),
         number(r.at("outliers").at("avg_kurtosis"), 1)});
  }
  return to_text(table);
}

}  // namespace

void add_ptq(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("ptq", "quantize a model after training and measure what is lost");
  command->add_option("MODEL", options->model, "checkpoint folder or run folder")->required();
  command->add_option("--config", options->config, "file whose sections overlay the run's config");
  add_assignments(*command, options->assignments, "KEY=VALUE, e.g. ptq.weights.bits=6; repeatable");
  command->add_option("--output", options->output,
                      "the JSON result; default: <run>/ptq/<name of --config, or "
                      "bits>-seed<seed>.json, or stdout where "
                      "there is no run");
  command->add_flag("--json", options->json, "print the JSON result");
  command->callback([options] {
    const ModelArgument model = open_model(options->model);
    const RunConfig config = config_of(model, options->config, options->assignments);
    PtqOptions ptq;
    ptq.device = choose_device(config.device);
    ptq.kurtosis_batches = config.eval.kurtosis_batches;
    ptq.evaluation_seed = static_cast<uint64_t>(config.eval.seed);
    model.pretrained.model->parameters.to(ptq.device, at::kFloat);
    const PtqData data = open_ptq_data(config.ptq, config, model.tokenizer);
    const Json result = quantize_and_evaluate(model.pretrained, data, config.ptq, ptq);
    std::string output = options->output;
    const std::string name = options->config.empty()
                                 ? bits_name(config.ptq)
                                 : std::filesystem::path(options->config).stem().string();
    if (output.empty() && model.run) {
      std::filesystem::create_directories(*model.run / "ptq");
      output = (*model.run / "ptq" / concat(name, "-seed", config.ptq.seed, ".json")).string();
    }
    const bool to_stdout = output.empty() || output == "-" || options->json;
    if (!output.empty() && output != "-") write_output(output, dump(result, 2) + "\n");
    write_output("", to_stdout ? dump(result, 2) + "\n" : summary(result, name));
    if (!to_stdout) log_info("written to " + output);
  });
}

}  // namespace quench
