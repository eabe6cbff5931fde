// Text to token ids and back. Each kind of tokenizer is one file beside this one and one line in
// tokenizer.cpp's table.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace quench {

// Ids of the tokens that are not text; -1: the tokenizer has no such token.
struct SpecialTokens {
  int32_t pad = -1, unk = -1, cls = -1, sep = -1, mask = -1, bos = -1, eos = -1;

  // The tokens that structure a sequence, all but `unk` (which stands for text): masking must not
  // select them.
  std::vector<int32_t> structural() const;
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  // Ids of `text` (UTF-8), without special tokens. Safe to call from several threads.
  virtual std::vector<int32_t> encode(std::string_view text) const = 0;
  // How often encode() has cut a word that was too long for the tokenizer's library.
  virtual int64_t words_cut() const { return 0; }
  virtual std::string decode(std::span<const int32_t> ids) const = 0;

  virtual int64_t vocab_size() const = 0;
  virtual const SpecialTokens& special() const = 0;

  // Ids of a whole document: [CLS] text [SEP] where the tokenizer has both; else <bos> text where
  // it has <bos> (OPT's is </s>); else text <eos> where it has <eos>; else the text alone.
  // Of a part of a document without what belongs to its other end.
  std::vector<int32_t> document(std::string_view text, bool begins = true, bool ends = true) const;

  // What stands before and behind the text of a document; -1: nothing.
  std::pair<int32_t, int32_t> enclosing() const;

  // Writes the files from which load_tokenizer() makes this tokenizer again.
  virtual void save(const std::string& folder) const = 0;

  // Names the content: equal tokenizers have equal hashes. 16 hexadecimal digits.
  virtual std::string hash() const = 0;
};

// Loads a tokenizer from its file, or from the folder that holds it. Throws Error when there is
// none.
std::unique_ptr<Tokenizer> load_tokenizer(const std::string& file_or_folder);

// The one that the folder holds; null if it holds none.
std::shared_ptr<const Tokenizer> find_tokenizer(const std::string& folder);

}  // namespace quench
