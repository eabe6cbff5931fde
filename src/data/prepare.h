// Text files to a prepared token set (token_set.h).
//
// As in the reference, every document gets its special tokens, the documents are concatenated and
// cut into chunks; a chunk may begin and end inside a document. Here the text is concatenated as a
// whole and only its last remainder is dropped (the reference drops one for every 1000 texts).
//
// The special tokens are those of Tokenizer::document(). Of BERT ([CLS] text [SEP]) and OPT (</s>
// before every text, none behind it) they are the reference's. It has no other tokenizers, and
// Hugging Face's GPT-2 would run texts together: here <|endoftext|> ends them. A sentencepiece
// tokenizer that was trained here writes [CLS] = bos before and [SEP] = eos behind, for causal
// models too.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "data/corpus.h"
#include "data/token_set.h"
#include "data/tokenizer.h"

namespace quench {

struct PrepareOptions {
  int64_t chunk_length = 128;
  DocumentUnit document = DocumentUnit::kLine;
  InvalidUtf8 invalid_utf8 = InvalidUtf8::kError;
  int threads = 0;                      // 0: all processors; never changes the result
  int64_t max_shard_bytes = 256 << 20;  // rounded down to whole chunks
  std::string scan_record = "";         // of scan_once()
  bool verify = false;                  // read the set that is there from end to end
};

struct Prepared {
  TokenSet tokens;
  bool reused = false;                // the folder held this very set already
  std::vector<std::string> warnings;  // files that were left out, and why; a damaged set
};

using PrepareProgress = std::function<void(int64_t done_bytes, int64_t total_bytes)>;

// Tokenizes `files` into `folder`, which appears whole or not at all, or reuses the set there if it
// was made from the same files, tokenizer and settings. A set made from others is replaced, and so
// is a damaged one, with a warning (a shard of the wrong size; with `verify`, of another checksum);
// a folder that is no token set is an Error, and so is text shorter than one chunk. Of two
// processes that prepare the same folder at a time one waits and finds it done; `on_wait` is told
// for whom. Shards that were finished before a kill, an error or a signal are not made again by the
// next call. `progress` may be empty, and may throw to stop. Throws Interrupted (base/signals.h)
// between blocks of text.
Prepared prepare(const std::vector<TextFile>& files, const Tokenizer& tokenizer,
                 const PrepareOptions& options, const std::string& folder,
                 const PrepareProgress& progress = {},
                 const std::function<void(const std::string& holder)>& on_wait = {});

}  // namespace quench
