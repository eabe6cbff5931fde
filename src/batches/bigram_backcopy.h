// data.type: bigram_backcopy. Sequences of a language in which attention sinks come early
// (data/bigram_backcopy.h), for causal language models. They are made on demand: a sample is a
// function of the seed and of its position in the stream (train.seed; eval.seed for validation,
// whose stream is another one), training never sees one twice.
#pragma once

#include <optional>
#include <string>

#include "batches/data_config.h"
#include "data/bigram_backcopy.h"

namespace quench {

class BigramBackcopyData : public DataConfig {
 public:
  std::optional<std::string> text;  // file; default: data/bigram_text.h
  int64_t triggers = 3;
  int64_t max_seq_length = 256;
  int64_t validation_samples = 1000;

  std::string type() const override { return "bigram_backcopy"; }
  void describe(config::Fields& fields) override;
  void validate() const override;
  void check_task(const std::string& task) const override;
  int64_t sequence_length() const override { return max_seq_length; }
  OpenedData open(Subset subset, const DataContext& context) const override;
};

}  // namespace quench
