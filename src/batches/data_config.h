// The `data`, `tokenizer` and `task` sections of a config, and how they become batch sources. A new
// kind of data is one class like TextData and one line in `data_types()`.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "batches/source.h"
#include "config/fields.h"
#include "data/subset.h"
#include "data/tokenizer.h"

namespace quench {

struct TokenizerConfig {
  std::optional<std::string> path;  // a tokenizer file or the folder that holds it
  // Of the sentencepiece tokenizer that is trained without a path:
  std::string algorithm = "unigram";
  int64_t vocab_size = 8000;
  double character_coverage = 0.9995;
  int64_t training_lines = 200000;  // drawn at random from the corpus
};
void describe(config::Fields& fields, TokenizerConfig& config);

struct TaskConfig {
  // mlm | clm | classification; default: what the model is for
  std::optional<std::string> objective;
  double mlm_probability = 0.15;
};
void describe(config::Fields& fields, TaskConfig& config);

// What a source has to know besides its own section.
struct DataContext {
  std::string task;  // resolved
  double mlm_probability = 0.15;
  TokenizerConfig tokenizer_config;
  std::shared_ptr<const Tokenizer> tokenizer;  // a loaded model's own; null: from tokenizer_config
};

struct OpenedData {
  BatchSourcePtr source;
  std::shared_ptr<const Tokenizer> tokenizer;  // null unless text
  int64_t max_seq_length = 0;                  // 0: not sequences
  int64_t vocabulary_or_classes = 0;           // 0: not known
  int64_t image_size = 0;                      // 0: not images, or not known
};

class DataConfig {
 public:
  virtual ~DataConfig() = default;
  virtual std::string type() const = 0;
  virtual void describe(config::Fields& fields) = 0;
  // Throws UsageError naming a file or pattern that does not exist; creates nothing.
  virtual void validate() const = 0;
  // Throws UsageError when training cannot take batches of this size.
  virtual void check_batch_size(int64_t /*batch_size*/) const {}
  // Tokens of its sequences; 0: not sequences, or not known before it is opened.
  virtual int64_t sequence_length() const { return 0; }
  // Prepares what is not prepared yet (tokenizer, token shards), shows progress, and opens one
  // subset.
  virtual OpenedData open(Subset subset, const DataContext& context) const = 0;
};

const config::Registry<DataConfig>& data_types();

// One body of text among several.
struct TextCorpus {
  std::vector<std::string> files;
  std::vector<std::string> validation_files;
  double weight = 1;  // passes over it in one epoch of the whole
};
void describe(config::Fields& fields, TextCorpus& corpus);

// Text files, tokenized, cut into chunks: one corpus, or several that are concatenated.
class TextData : public DataConfig {
 public:
  std::vector<std::string> files;
  std::vector<std::string> validation_files;
  std::vector<TextCorpus> corpora;  // instead of the two above
  double validation_share = 0.05;
  int64_t split_seed = 0;
  int64_t max_seq_length = 128;
  std::string document = "paragraph";
  std::string invalid_utf8 = "error";
  std::optional<std::string> cache;  // default: the user's cache folder

  std::string type() const override { return "text"; }
  void describe(config::Fields& fields) override;
  void validate() const override;
  int64_t sequence_length() const override { return max_seq_length; }
  OpenedData open(Subset subset, const DataContext& context) const override;
};

// Batches that were prepared elsewhere, in safetensors files (docs/design.md 4.2).
class TensorsData : public DataConfig {
 public:
  std::string train;
  std::string validation;

  std::string type() const override { return "tensors"; }
  void describe(config::Fields& fields) override;
  void validate() const override;
  OpenedData open(Subset subset, const DataContext& context) const override;
};

// Opens `path` as a tensors file.
BatchSourcePtr open_tensors(const std::string& path);

// Replaces ${NAME} by the environment variable NAME, and ${LIBTORCH_INCLUDE} by the folder of the
// C++ headers that LibTorch ships, the text that is on every machine that runs quench. Throws
// UsageError for a name that is not set.
std::string expand_variables(const std::string& text);

// Where prepared data is kept: $QUENCH_CACHE, else $XDG_CACHE_HOME/quench, else ~/.cache/quench.
std::string cache_folder();

}  // namespace quench
