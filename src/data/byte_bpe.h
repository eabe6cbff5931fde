// Byte-level byte-pair encoding (Radford et al. 2019), the tokenizer of GPT-2 and OPT: cut the text
// into words, take each word's bytes as symbols, and merge the neighbours that were merged first in
// training until none is left. Gives the ids of Hugging Face's fast GPT2Tokenizer, but that letters
// and digits younger than the Unicode version of ICU cut words as symbols do.
#pragma once

#include <memory>
#include <string>

#include "data/hf_tokenizer.h"
#include "data/tokenizer.h"

namespace quench {

// `file` is a vocab.json; merges.txt stands beside it. A tokenizer_config.json there names the
// special tokens; without it they are OPT's where the vocabulary has those, else GPT-2's. special()
// has bos only where documents begin with it (OPT). decode() restores the encoded bytes exactly.
std::unique_ptr<Tokenizer> load_byte_bpe(const std::string& file);

// From another file, to which the same settings belong.
std::unique_ptr<Tokenizer> make_byte_bpe(const HfVocabulary& vocabulary);

}  // namespace quench
