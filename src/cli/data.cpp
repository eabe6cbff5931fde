#include <ATen/core/Tensor.h>

#include <sstream>

#include "base/error.h"
#include "base/signals.h"
#include "cli/commands.h"

namespace quench {
namespace {

struct Options {
  std::string config, subset = "train";
  std::vector<std::string> assignments;
  int64_t samples = 2;
  bool verify = false;
};

DataContext context_of(const RunConfig& config) {
  catch_signals();  // no half of a token set is left
  DataContext context = config.data_context();
  context.tokenizer = config.starting_tokenizer();
  return context;
}

std::string shown(const Batch& batch, const Tokenizer* tokenizer) {
  std::ostringstream out;
  for (int64_t i = 0; i < batch.size(); ++i) {
    if (!batch.input_ids.defined()) {
      out << "sample " << i << ": image " << batch.pixel_values.sizes().slice(1) << ", label "
          << batch.labels.select(0, i).item<int64_t>() << "\n";
      continue;
    }
    const at::Tensor ids = batch.input_ids.select(0, i).to(at::kInt).contiguous(),
                     labels = batch.labels.select(0, i);
    const std::vector<int32_t> row(ids.const_data_ptr<int32_t>(),
                                   ids.const_data_ptr<int32_t>() + ids.numel());
    out << "sample " << i << ": " << row.size() << " tokens, "
        << labels.ne(-100).sum().item<int64_t>() << " labels\n";
    if (tokenizer) out << tokenizer->decode(row) << "\n\n";
  }
  return out.str();
}

}  // namespace

void add_data(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("data", "prepare and look at a config's data");
  command->require_subcommand(1);
  const auto with_config = [options](CLI::App* sub) {
    sub->add_option("CONFIG", options->config, "config file or run folder")->required();
    add_assignments(*sub, options->assignments);
    return sub;
  };
  CLI::App* prepare =
      with_config(command->add_subcommand("prepare", "tokenize and cache the data of a config"));
  prepare->add_flag("--verify", options->verify,
                    "read the text and what was prepared from it before from end to end");
  prepare->callback([options] {
    const RunConfig config = load_run_config(options->config, options->assignments);
    DataContext context = context_of(config);
    context.verify = options->verify;
    for (const Subset subset : {Subset::kTrain, Subset::kValidation}) {
      const OpenedData opened = config.data->open(subset, context);
      context.tokenizer = opened.tokenizer;
      const int64_t samples = opened.source->samples();
      write_output("", concat(subset == Subset::kTrain ? "train: " : "validation: ",
                              samples == kEndless ? "endless" : concat(samples), " samples\n"));
    }
  });
  CLI::App* show =
      with_config(command->add_subcommand("show", "print samples as an evaluation sees them"));
  show->add_option("--subset", options->subset, "split")
      ->check(CLI::IsMember({"train", "validation"}));
  show->add_option("--samples", options->samples, "how many")->check(at_least(1));
  show->callback([options] {
    const RunConfig config = load_run_config(options->config, options->assignments);
    DataContext context = context_of(config);
    OpenedData data = config.data->open(Subset::kTrain, context);
    if (options->subset == "validation") {
      context.tokenizer = data.tokenizer;
      data = config.data->open(Subset::kValidation, context);
    }
    const int64_t count = std::min(options->samples, data.source->samples());
    write_output(
        "", shown(batch_in_order(*data.source, 0, count, static_cast<uint64_t>(config.eval.seed)),
                  data.tokenizer.get()));
  });
}

}  // namespace quench
