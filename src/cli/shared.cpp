#include <iostream>

#include "base/error.h"
#include "cli/commands.h"
#include "io/atomic_file.h"

namespace quench {

namespace fs = std::filesystem;

ModelArgument open_model(const std::string& model) {
  ModelArgument argument;
  argument.pretrained = load_pretrained(model);
  const fs::path& folder = argument.pretrained.folder;
  const fs::path above =
      fs::absolute(folder).parent_path().parent_path();  // <run>/checkpoints/step-...
  for (const fs::path& run : {fs::path(model), above})
    if (fs::exists(run / "config.yaml") && !argument.run) argument.run = run;
  argument.tokenizer = tokenizer_of(argument.pretrained);
  return argument;
}

RunConfig config_of(const ModelArgument& model, const std::string& overlay,
                    const std::vector<std::string>& assignments) {
  config::Node node;
  node.kind = config::Node::Kind::kMap;
  if (model.run) node = config::load((*model.run / "config.yaml").string());
  if (!overlay.empty()) config::merge(node, config::load(overlay));
  for (const std::string& assignment : assignments) config::set(node, assignment);
  RunConfig config;
  config::read(node, config);
  config.model = model.pretrained.config;
  config.attention = model.pretrained.attention;
  for (const auto& data : {config.data, config.ptq.calibration.data, config.ptq.evaluation.data})
    if (data) data->validate();
  return config;
}

void add_assignments(CLI::App& command, std::vector<std::string>& assignments,
                     const std::string& help) {
  command.add_option("--set", assignments, help)->allow_extra_args(false);
}

void write_output(const std::string& path, const std::string& content) {
  if (path.empty() || path == "-") {
    std::cout << content << std::flush;
  } else {
    write_file_atomically(path, content);
  }
}

}  // namespace quench
