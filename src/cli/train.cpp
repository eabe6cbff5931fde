#include <filesystem>

#include "base/log.h"
#include "cli/commands.h"
#include "train/trainer.h"

namespace quench {

void add_train(CLI::App& app) {
  struct Options {
    std::string config, output;
    std::vector<std::string> assignments;
    StartFrom from;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("train", "pretrain a model");
  command->add_option("CONFIG", options->config, "config file, or a run folder to continue")
      ->required();
  add_assignments(*command, options->assignments);
  command->add_option("--output", options->output,
                      "run folder; default: runs/<name of the config file>");
  command->add_flag("--resume", options->from.resume,
                    "continue from the run folder's latest checkpoint");
  command
      ->add_option("--resume-from", options->from.step,
                   "continue from the checkpoint of this step; what came after it is set aside")
      ->check(at_least(0));
  command->callback([options] {
    RunConfig config = load_run_config(options->config, options->assignments);
    std::filesystem::path folder = options->output;
    if (folder.empty() && std::filesystem::is_directory(options->config)) folder = options->config;
    if (folder.empty())
      folder = config.output.folder.value_or(
          "runs/" + std::filesystem::path(options->config).stem().string());
    if (const int signal = train(config, folder, options->from)) throw Exit{128 + signal};
    log_info("done: results in " + folder.string());
  });
}

}  // namespace quench
