// The tokenizer.json of Hugging Face's `tokenizers`, in which transformers keeps any tokenizer: of
// what it can hold quench reads BERT's WordPiece, GPT-2's and OPT's byte-level BPE, and what quench
// writes for sentencepiece models.
#pragma once

#include <memory>
#include <string>

#include "data/tokenizer.h"

namespace quench {

// A tokenizer_config.json beside the file names the special tokens; where both say something, this
// file counts. Without a post-processor documents get special tokens as Tokenizer::document() says.
// Throws Error, which names the file and the part, for all that would make other ids.
std::unique_ptr<Tokenizer> load_tokenizer_json(const std::string& file);

}  // namespace quench
