// data.type: text. Files -> tokenizer -> memory-mapped chunks of token ids -> batches with masked
// or next-token labels.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "batches/data_config.h"

namespace quench {

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
  std::string begin = "none";  // | bos: every chunk begins with the token that begins a document
  std::string document = "paragraph";
  std::string invalid_utf8 = "error";
  std::optional<std::string> cache;  // default: the user's cache folder

  std::string type() const override { return "text"; }
  void describe(config::Fields& fields) override;
  void validate() const override;
  int64_t sequence_length() const override { return max_seq_length; }
  bool uses_tokenizer() const override { return true; }
  OpenedData open(Subset subset, const DataContext& context) const override;
};

}  // namespace quench
