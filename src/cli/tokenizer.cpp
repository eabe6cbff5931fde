#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>

#include "base/error.h"
#include "base/json.h"
#include "base/log.h"
#include "base/signals.h"
#include "base/text.h"
#include "cli/commands.h"
#include "data/corpus.h"
#include "data/sentencepiece.h"
#include "io/atomic_file.h"

namespace quench {
namespace {

struct Options {
  std::vector<std::string> files;
  std::string output, tokenizer, input = "-";
  SentencePieceOptions sentencepiece;
  bool special = false, json = false;
};

std::string read_input(const std::string& path) {
  if (path != "-") return read_file(path);
  return {std::istreambuf_iterator<char>(std::cin), {}};
}

// A tokenizer may be replaced, anything else may not.
void check_replaceable(const std::string& folder) {
  namespace fs = std::filesystem;
  std::error_code none;
  const bool is_name = fs::path(folder).filename() != "." && fs::path(folder).filename() != "..";
  if (!is_name || fs::is_symlink(folder, none) || (fs::exists(folder) && !fs::is_directory(folder)))
    fail_usage("--output ", folder, ": expected a folder by its name, or a name that is not taken");
  for (const auto& entry : fs::directory_iterator(folder, none)) {
    const std::string name = entry.path().filename().string();
    if (name != "tokenizer.model" && name != "tokenizer.json" && name != "tokenizer_config.json")
      fail_usage("--output ", folder, " holds '", name, "' already: choose a new folder");
  }
}

void train_tokenizer(const Options& options) {
  check_replaceable(options.output);
  catch_signals();
  const std::vector<TextFile> files = expand_files(options.files);
  const Corpus corpus = scan(files, InvalidUtf8::kError);
  CorpusReader reader(corpus.files, DocumentUnit::kLine, InvalidUtf8::kError);
  AtomicFolder folder(options.output);
  std::unique_ptr<Tokenizer> tokenizer;
  try {
    tokenizer = train_sentencepiece(lines_of(reader), options.sentencepiece);
  } catch (const Error& error) {
    fail(listed(options.files, 3), ": ", error.what());
  }
  tokenizer->save(folder.path().string());
  folder.commit();
  log_info(concat(options.output, ": ", tokenizer->vocab_size(), " pieces from ",
                  corpus.files.size(), " files"));
}

std::string text_of(const std::string& json_line) {
  const Json json = parse_json(json_line, /*allow_exceptions=*/false);
  check(json.is_string(), "--json: ", json_line, " is not a JSON string");
  return json.get<std::string>();
}

// One line of ids for each line of text.
void encode(const Options& options) {
  const auto tokenizer = load_tokenizer(options.tokenizer);
  std::istringstream lines(read_input(options.input));
  std::ostringstream out;
  for (std::string line; std::getline(lines, line);) {
    if (options.json) line = text_of(line);
    const auto ids = options.special ? tokenizer->document(line) : tokenizer->encode(line);
    for (size_t i = 0; i < ids.size(); ++i) out << (i ? " " : "") << ids[i];
    out << "\n";
  }
  write_output("", out.str());
}

void decode(const Options& options) {
  const auto tokenizer = load_tokenizer(options.tokenizer);
  std::istringstream lines(read_input(options.input));
  std::ostringstream out;
  int64_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    std::istringstream words(line);
    std::vector<int32_t> ids;
    for (int32_t id; words >> id;) {
      check(id >= 0 && id < tokenizer->vocab_size(), "line ", number, ": id ", id,
            " is outside the vocabulary of ", tokenizer->vocab_size());
      ids.push_back(id);
    }
    check(words.eof(), "line ", number, ": expected ids separated by spaces");
    out << tokenizer->decode(ids) << "\n";
  }
  write_output("", out.str());
}

}  // namespace

void add_tokenizer(CLI::App& app) {
  const auto options = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("tokenizer", "train tokenizers, encode and decode text");
  command->require_subcommand(1);

  CLI::App* train = command->add_subcommand("train", "train a sentencepiece tokenizer");
  train->add_option("FILES", options->files, "text files and globs")->required();
  train->add_option("--output", options->output, "folder to write")->required();
  train->add_option("--type", options->sentencepiece.model_type, "model")
      ->check(CLI::IsMember({"unigram", "bpe"}));
  train
      ->add_option("--vocab-size", options->sentencepiece.vocab_size,
                   "pieces, special tokens included")
      ->check(CLI::Range(6, 1'000'000));
  train->callback([options] { train_tokenizer(*options); });

  for (const bool encodes : {true, false}) {
    CLI::App* sub = encodes ? command->add_subcommand("encode", "text lines on stdin -> ids")
                            : command->add_subcommand("decode", "lines of ids on stdin -> text");
    sub->add_option("TOKENIZER", options->tokenizer, "tokenizer file or the folder that holds it")
        ->required();
    sub->add_option("INPUT", options->input, "file; default: stdin");
    if (encodes) {
      sub->add_flag("--special", options->special, "add the special tokens of a document");
      sub->add_flag("--json", options->json,
                    "each line is a JSON string, so that a text may have several lines");
    }
    sub->callback([options, encodes] { encodes ? encode(*options) : decode(*options); });
  }
}

}  // namespace quench
