// BERT's tokenizer (Devlin et al. 2018): clean the text, strip accents and lower-case (uncased
// models), cut at spaces and punctuation, then cut each word into the longest known pieces.
// Gives the ids of Hugging Face's fast BertTokenizer, whose Unicode categories are those of
// Unicode 8; like there, 256 ideographs (U+2B820 to U+2B91F) are not set apart as words.
#pragma once

#include <memory>
#include <string>

#include "data/hf_tokenizer.h"
#include "data/tokenizer.h"

namespace quench {

// `file` is a vocab.txt. A tokenizer_config.json beside it names the special tokens and says
// whether the model is cased (do_lower_case); without it a vocabulary with an upper-case letter is
// cased. decode() joins words with single spaces: spacing, and what encode() stripped, is lost.
std::unique_ptr<Tokenizer> load_wordpiece(const std::string& file);

// From another file, to which the same settings belong.
std::unique_ptr<Tokenizer> make_wordpiece(const HfVocabulary& vocabulary);

}  // namespace quench
