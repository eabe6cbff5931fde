#include "sweep/sweep.h"

#include "base/log.h"
#include "cli/commands.h"

namespace quench {

void add_sweep(CLI::App& app) {
  struct Options {
    std::string config, output;
    std::vector<std::string> assignments;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("sweep", "a grid of trainings and quantizations, and its table");
  command->add_option("CONFIG", options->config, "sweep file")->required();
  add_assignments(*command, options->assignments,
                  "KEY=VALUE: overrides a value of every run; repeatable");
  command->add_option("--output", options->output,
                      "folder; default: runs/<name of the sweep file>");
  command->add_flag("--json", options->json, "print the result as JSON");
  command->callback([options] {
    const SweepConfig sweep = load_sweep(options->config, options->assignments);
    const std::string folder =
        options->output.empty() ? "runs/" + std::filesystem::path(options->config).stem().string()
                                : options->output;
    const SweepOutcome outcome = run_sweep(sweep, options->assignments, folder);
    if (outcome.interrupted_by) throw Exit{128 + outcome.interrupted_by};
    write_output("", options->json ? dump(outcome.json, 2) + "\n" : to_text(outcome.table));
    log_info("table and runs are in " + folder);
    if (outcome.failed) throw Exit{1};
  });
}

}  // namespace quench
