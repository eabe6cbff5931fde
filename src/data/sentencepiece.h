// SentencePiece tokenizers (Kudo, Richardson 2018): unigram and BPE, trained in memory or loaded
// from a .model file.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/json.h"
#include "data/corpus.h"
#include "data/tokenizer.h"

namespace quench {

struct SentencePieceOptions {
  std::string model_type = "unigram";  // or "bpe"
  int64_t vocab_size = 8000;           // special tokens included
  // Share of all characters that the alphabet covers; the rest is [UNK].
  double character_coverage = 0.9995;
  int64_t input_sentence_size = 0;  // train on that many lines, drawn at random; 0: on all
};

// Sets `line` to the next line and returns true, or returns false at the end.
using LineSource = std::function<bool(std::string& line)>;
LineSource lines_of(CorpusReader& reader);  // which outlives it

// Trains a tokenizer, with scores of which sums are exact (round_scores()); equal lines and options
// give an equal tokenizer. One layout of special tokens serves masked and causal models: [PAD] 0,
// [UNK] 1, [CLS] = bos 2, [SEP] = eos 3, [MASK] 4. Throws Error when the options are out of range
// or the text does not support vocab_size pieces; Interrupted (base/signals.h). Words of more than
// 4096 bytes are cut, with a warning.
std::unique_ptr<Tokenizer> train_sentencepiece(const LineSource& lines,
                                               const SentencePieceOptions& options);

// Special tokens are recognised by their names ([CLS], <mask>, ...) and by the model's own pad,
// unk, bos and eos.
std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& file);

// From `json`, the content of a tokenizer.json that save() wrote, perhaps written again by
// transformers since. Throws Error, which names `file`, where it is not that.
std::unique_ptr<Tokenizer> make_sentencepiece(const nlohmann::json& json, const std::string& file);

}  // namespace quench
