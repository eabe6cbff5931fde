// The `data`, `tokenizer` and `task` sections of a config, and how they become batch sources. A new
// kind of data is one class like TensorsData (tensors.h) and one line in `data_types()`.
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
  bool verify = false;                         // read what was prepared before from end to end
};

struct OpenedData {
  BatchSourcePtr source;
  std::shared_ptr<const Tokenizer> tokenizer;   // null unless text
  int64_t max_seq_length = 0;                   // 0: not sequences
  int64_t vocabulary_or_classes = 0;            // 0: not known
  std::optional<SpecialTokens> special_tokens;  // std::nullopt: not known
  int64_t image_size = 0;                       // 0: not images, or not known
  Json image_processor = nullptr;  // how images become pixels, as Hugging Face's files say it
  // Names the content (of picture folders: names and sizes of the files), wherever it lies; empty:
  // the config alone decides it.
  std::string identity = "";
};

class DataConfig {
 public:
  virtual ~DataConfig() = default;
  virtual std::string type() const = 0;
  // Where the files lie may change in a run that is resumed: what they hold is compared then.
  virtual void describe(config::Fields& fields) = 0;
  // Throws UsageError naming a file or pattern that does not exist; creates nothing.
  virtual void validate() const = 0;
  // Throws UsageError if its samples are none for such a task (TaskConfig).
  virtual void check_task(const std::string& /*task*/) const {}
  // Throws UsageError when training cannot take batches of this size.
  virtual void check_batch_size(int64_t /*batch_size*/) const {}
  // Tokens of its sequences; 0: not sequences, or not known before it is opened.
  virtual int64_t sequence_length() const { return 0; }
  virtual bool uses_tokenizer() const { return false; }
  // Prepares what is not prepared yet (tokenizer, token shards), shows progress, and opens one
  // subset.
  virtual OpenedData open(Subset subset, const DataContext& context) const = 0;
};

const config::Registry<DataConfig>& data_types();

}  // namespace quench
