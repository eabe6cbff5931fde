#include "data/byte_bpe.h"

#include <unicode/uchar.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <functional>
#include <optional>
#include <queue>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "data/hf_tokenizer.h"
#include "data/string_table.h"
#include "io/atomic_file.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

enum class Kind : uint8_t { kLetter, kNumber, kSpace, kOther };

Kind kind_of(UChar32 c) {
  const uint32_t mask = U_GET_GC_MASK(c);
  if (mask & U_GC_L_MASK) return Kind::kLetter;
  if (mask & U_GC_N_MASK) return Kind::kNumber;
  return u_isUWhiteSpace(c) ? Kind::kSpace : Kind::kOther;
}

const std::array<Kind, 128> kAsciiKinds = [] {
  std::array<Kind, 128> kinds;
  for (UChar32 c = 0; c < 128; ++c) kinds[c] = kind_of(c);
  return kinds;
}();

// The kind of the character at `at`, which moves behind it. Ill-formed bytes are kOther.
Kind next_kind(std::string_view text, size_t& at) {
  if (U8_IS_SINGLE(text[at])) return kAsciiKinds[text[at++]];
  UChar32 c;
  U8_NEXT_OR_FFFD(text.data(), at, text.size(), c);
  return kind_of(c);
}

// The end of the characters of `kind` from `at` on.
size_t run_end(std::string_view text, size_t at, Kind kind) {
  for (size_t next = at; next < text.size() && next_kind(text, next) == kind;) at = next;
  return at;
}

// The length of the word that `text` begins with: the first match of GPT-2's
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
size_t word_length(std::string_view text) {
  if (text[0] == '\'') {
    for (std::string_view ending : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
      if (text.starts_with(ending)) return ending.size();
    }
  }
  size_t at = text[0] == ' ' && text.size() > 1 ? 1 : 0;
  const Kind kind = next_kind(text, at);
  if (kind != Kind::kSpace) return run_end(text, at, kind);
  // White space leaves its last character to the word behind it, unless it would be empty.
  size_t last = 0;
  for (at = 0; at < text.size();) {
    size_t next = at;
    if (next_kind(text, next) != Kind::kSpace) return last > 0 ? last : at;
    last = at;
    at = next;
  }
  return at;
}

// GPT-2 writes each byte as one printable character: itself where that is printable in Latin-1,
// else the next one from U+0100 on.
const std::array<char16_t, 256> kByteCharacters = [] {
  std::array<char16_t, 256> characters;
  char16_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable = (byte > 0x20 && byte < 0x7F) || (byte > 0xA0 && byte != 0xAD);
    characters[byte] = printable ? static_cast<char16_t>(byte) : next++;
  }
  return characters;
}();

std::string utf8(char16_t c) {
  std::string bytes(U8_MAX_LENGTH, 0);
  size_t size = 0;
  U8_APPEND_UNSAFE(bytes.data(), size, c);
  bytes.resize(size);
  return bytes;
}

// The bytes that a token's characters stand for; nullopt where one stands for none.
std::optional<std::string> to_bytes(std::string_view token) {
  static const std::array<int, 0x180> bytes = [] {
    std::array<int, 0x180> table;
    table.fill(-1);
    for (int byte = 0; byte < 256; ++byte) table[kByteCharacters[byte]] = byte;
    return table;
  }();
  std::string result;
  for (size_t at = 0; at < token.size();) {
    UChar32 c;
    U8_NEXT(token.data(), at, token.size(), c);
    if (c < 0 || c >= static_cast<UChar32>(bytes.size()) || bytes[c] < 0) return std::nullopt;
    result += static_cast<char>(bytes[c]);
  }
  return result;
}

// Which pairs of tokens merge, into which token, and which goes first.
struct Merge {
  int32_t rank, id;
};
using Merges = std::unordered_map<uint64_t, Merge>;

uint64_t pair_of(int32_t left, int32_t right) {
  return static_cast<uint64_t>(left) << 32 | static_cast<uint32_t>(right);
}

Merges index_merges(const HfVocabulary& source, const StringTable& vocabulary) {
  Merges merges;
  int32_t rank = 0;
  for (const std::string& merge : source.merges) {
    const size_t space = std::min(merge.find(' '), merge.size() - 1);
    const std::string left = merge.substr(0, space), right = merge.substr(space + 1);
    const int32_t first = vocabulary.find(left), second = vocabulary.find(right);
    const int32_t merged = vocabulary.find(left + right);
    check(first >= 0 && second >= 0 && merged >= 0, source.merges_file, ": merge ", rank + 1,
          " (\"", merge, "\") does not join two tokens of the vocabulary to a third.");
    merges[pair_of(first, second)] = {rank++, merged};
  }
  return merges;
}

std::vector<std::string> parse_merges(std::string_view text) {
  std::vector<std::string> merges;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    line.remove_suffix(line.ends_with('\r'));
    if (!line.empty() && !line.starts_with("#version")) merges.emplace_back(line);
  }
  return merges;
}

// OPT's where the vocabulary has its tokens, else GPT-2's.
Json default_settings(const std::vector<std::string>& tokens) {
  const auto has = [&](const char* token) {
    return std::ranges::find(tokens, token) != tokens.end();
  };
  const bool opt = has("</s>") && has("<pad>");
  const Json end = opt ? Json("</s>") : has("<|endoftext|>") ? Json("<|endoftext|>") : Json();
  return {{"tokenizer_class", "GPT2Tokenizer"},
          {"bos_token", end},
          {"eos_token", end},
          {"unk_token", end},
          {"pad_token", opt ? Json("<pad>") : Json()},
          {"add_bos_token", opt}};
}

class ByteBpeTokenizer : public HfTokenizer {
 public:
  explicit ByteBpeTokenizer(const HfVocabulary& source)
      : HfTokenizer(source, default_settings(source.tokens)),
        vocabulary_(tokens_),
        merges_(index_merges(source, vocabulary_)),
        prefix_space_(settings_.flag("add_prefix_space").value_or(false)),
        words_(tokens_.size()) {
    for (int byte = 0; byte < 256; ++byte) {
      bytes_[byte] = vocabulary_.find(utf8(kByteCharacters[byte]));
      check(bytes_[byte] >= 0, source.file, " lacks a token for the byte ", byte, ".");
    }
    const int32_t bos = add_special("bos_token", source.file);
    add_special("unk_token", source.file);  // no text is unknown, but the token in a text is itself
    special_ = {.pad = add_special("pad_token", source.file),
                .bos = settings_.flag("add_bos_token").value_or(false) ? bos : -1,
                .eos = add_special("eos_token", source.file)};
    for (int32_t id : source.added) added_.add(tokens_[id], id);
    hash_ = content_hash(concat(content_of(source, added_), special_.bos, ' ', special_.eos, ' ',
                                special_.pad, prefix_space_ ? " prefix" : ""));
    index_words(source.model_size);
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    added_.split(text, ids, [&](std::string_view part) {
      if (prefix_space_ && !part.empty() && part[0] != ' ') {
        encode_part(concat(' ', part), ids);
      } else {
        encode_part(part, ids);
      }
    });
    return ids;
  }

  std::string decode(std::span<const int32_t> ids) const override {
    std::string text;
    for (int32_t id : ids) {
      check(id >= 0 && id < vocab_size(), "byte-level BPE: cannot decode the id ", id,
            "; expected 0 to ", vocab_size() - 1, ".");
      text += tokens_[id];
    }
    return text;
  }

 private:
  int32_t add_special(const char* key, const std::string& file) {
    const std::optional<std::string> token = settings_.token(key);
    if (!token) return -1;
    const int32_t id = vocabulary_.find(*token);
    check(id >= 0, file, " lacks the ", key, " \"", *token, "\".");
    added_.add(*token, id);
    return id;
  }

  void encode_part(std::string_view part, std::vector<int32_t>& ids) const {
    while (!part.empty()) {
      const std::string_view word = part.substr(0, word_length(part));
      const int32_t id = words_.find(word);
      if (id >= 0) {
        ids.push_back(id);
      } else {
        merge(word, ids);
      }
      part.remove_prefix(word.size());
    }
  }

  // Turns tokens into bytes, and indexes those that are what merging makes of their bytes: as most
  // words of a text are such a token, most are found in one step.
  void index_words(size_t model_size) {
    std::vector<int32_t> ids;
    for (size_t id = 0; id < model_size; ++id) {
      const std::optional<std::string> bytes = to_bytes(tokens_[id]);
      if (!bytes) continue;
      tokens_[id] = *bytes;
      ids.clear();
      merge(*bytes, ids);
      if (ids.size() == 1) words_.insert(*bytes, ids[0]);
    }
  }

  // Appends the ids of one word.
  void merge(std::string_view word, std::vector<int32_t>& ids) const {
    struct Symbol {
      int32_t id, previous, next;  // id -1: merged into its predecessor
    };
    // By rank, then by position; the position is that of the left symbol.
    using Queue = std::priority_queue<uint64_t, std::vector<uint64_t>, std::greater<>>;
    thread_local std::vector<Symbol> symbols;
    thread_local Queue queue;
    const auto size = static_cast<int32_t>(word.size());
    const auto find_merge = [&](int32_t at) -> const Merge* {
      const Symbol& left = symbols[at];
      if (left.id < 0 || left.next >= size) return nullptr;
      const auto found = merges_.find(pair_of(left.id, symbols[left.next].id));
      return found == merges_.end() ? nullptr : &found->second;
    };
    const auto propose = [&](int32_t at) {
      if (const Merge* merge = find_merge(at)) queue.push(pair_of(merge->rank, at));
    };

    symbols.clear();
    for (int32_t i = 0; i < size; ++i) {
      symbols.push_back({bytes_[static_cast<unsigned char>(word[i])], i - 1, i + 1});
    }
    for (int32_t i = 0; i < size; ++i) propose(i);
    while (!queue.empty()) {
      const auto rank = static_cast<int32_t>(queue.top() >> 32);
      const auto at = static_cast<int32_t>(queue.top());
      queue.pop();
      const Merge* merge = find_merge(at);
      if (merge == nullptr || merge->rank != rank) continue;  // overtaken by another merge
      Symbol& left = symbols[at];
      Symbol& right = symbols[left.next];
      left.id = merge->id;
      left.next = right.next;
      right.id = -1;
      if (left.next < size) symbols[left.next].previous = at;
      if (left.previous >= 0) propose(left.previous);
      propose(at);
    }
    for (int32_t at = 0; at < size; at = symbols[at].next) ids.push_back(symbols[at].id);
  }

  StringTable vocabulary_;  // ids by token as in the file; tokens_ become bytes
  Merges merges_;
  bool prefix_space_;               // a text that begins with no space gets one
  std::array<int32_t, 256> bytes_;  // the token of each byte
  StringTable words_;               // ids by the bytes of a word that is one token
};

}  // namespace

std::unique_ptr<Tokenizer> make_byte_bpe(const HfVocabulary& vocabulary) {
  return std::make_unique<ByteBpeTokenizer>(vocabulary);
}

std::unique_ptr<Tokenizer> load_byte_bpe(const std::string& file) {
  const std::string text = read_file(file);
  const fs::path merges_file = fs::path(file).parent_path() / "merges.txt";
  const std::string merges = read_file(merges_file);
  HfVocabulary vocabulary{.file = file,
                          .files = {{"vocab.json", text}, {"merges.txt", merges}},
                          .tokens = tokens_by_id(parse_indexed_json(text), file),
                          .merges = parse_merges(merges),
                          .merges_file = merges_file.string()};
  vocabulary.model_size = vocabulary.tokens.size();
  return make_byte_bpe(vocabulary);
}

}  // namespace quench
