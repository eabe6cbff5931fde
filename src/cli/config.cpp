#include "base/error.h"
#include "cli/commands.h"

namespace quench {

void add_config(CLI::App& app) {
  struct Options {
    std::string config;
    std::vector<std::string> assignments;
    bool json = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("config", "check and show configs");
  command->require_subcommand(1);
  const auto with_config = [options](CLI::App* sub) {
    sub->add_option("CONFIG", options->config, "config file or run folder")->required();
    add_assignments(*sub, options->assignments);
    return sub;
  };
  with_config(command->add_subcommand("check", "say whether a config is valid"))
      ->callback([options] {
        load_run_config(options->config, options->assignments);
        write_output("", options->config + ": valid\n");
      });
  CLI::App* show = with_config(command->add_subcommand("show", "print the fully resolved config"));
  show->add_flag("--json", options->json, "as JSON");
  show->callback([options] {
    const Json resolved = config::write(load_run_config(options->config, options->assignments));
    write_output("", options->json ? dump(resolved, 2) + "\n" : config::to_yaml(resolved));
  });
  command->add_subcommand("schema", "print the JSON Schema of configs, for editors")->callback([] {
    write_output("", dump(config::schema<RunConfig>(), 2) + "\n");
  });
}

}  // namespace quench
