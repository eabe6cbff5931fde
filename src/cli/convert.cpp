#include "base/error.h"
#include "base/log.h"
#include "cli/commands.h"
#include "io/atomic_file.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

struct Options {
  ModelOptions model;
  std::string output;
  int64_t max_seq_length = 0;
};

// Tokenizers, image preprocessing and generation settings: whatever a Hugging Face folder holds
// beside its model.
constexpr const char* kCompanions[] = {"tokenizer.json",
                                       "tokenizer_config.json",
                                       "special_tokens_map.json",
                                       "added_tokens.json",
                                       "vocab.txt",
                                       "vocab.json",
                                       "merges.txt",
                                       "tokenizer.model",
                                       "spiece.model",
                                       "preprocessor_config.json",
                                       "generation_config.json"};

void copy_companions(const fs::path& from, const fs::path& to) {
  for (const char* name : kCompanions)
    if (fs::exists(from / name)) write_file_atomically(to / name, read_file(from / name));
}

void convert(const Options& options) {
  if (fs::exists(options.output))
    fail_usage("--output ", options.output, " exists already: choose a new folder");
  std::vector<std::string> assignments = options.model.assignments;
  if (options.max_seq_length)
    assignments.push_back(concat("max_seq_length=", options.max_seq_length));
  AtomicFolder folder(options.output);
  const Pretrained pretrained =
      load_pretrained(options.model.model, options.model.allow_partial, assignments);
  save_pretrained(folder.path(), pretrained);
  copy_companions(pretrained.folder, folder.path());
  folder.commit();
  log_info(concat(options.output, ": ", pretrained.config->type(), ", ",
                  pretrained.model->parameters.count(), " parameters"));
}

}  // namespace

void add_convert(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("convert",
                                         "read a checkpoint of Hugging Face or of the paper's "
                                         "code, write one of ours (float32 safetensors)");
  add_model(*command, options->model);
  command->add_option("--output", options->output, "folder to write")->required();
  command
      ->add_option(
          "--max-seq-length", options->max_seq_length,
          "length that attention.softmax.alpha refers to; default: the positions of the model")
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 30));
  command->callback([options] { convert(*options); });
}

}  // namespace quench
