#include "data/wordpiece.h"

#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "data/hf_tokenizer.h"
#include "data/string_table.h"
#include "io/atomic_file.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kContinuation = "##";

// The general category of `c` in Unicode 8. What came later counts as unassigned, so that the ids
// do not depend on the version of ICU.
int8_t category(UChar32 c) {
  switch (c) {  // recategorised since
    case 0x1734:
      return U_NON_SPACING_MARK;
    case 0x1885:
    case 0x1886:
      return U_OTHER_LETTER;
    case 0xA9BD:
      return U_COMBINING_SPACING_MARK;
    case 0x166D:
    case 0x111C9:
      return U_OTHER_PUNCTUATION;
  }
  UVersionInfo age;
  u_charAge(c, age);
  return age[0] > 8 ? static_cast<int8_t>(U_UNASSIGNED) : u_charType(c);
}

// The sixth range begins at 2B820 in the original, at 2B920 in Hugging Face's fast tokenizer.
bool is_ideograph(UChar32 c) {
  static constexpr std::pair<UChar32, UChar32> kRanges[] = {
      {0x3400, 0x4DBF},   {0x4E00, 0x9FFF},   {0xF900, 0xFAFF},   {0x20000, 0x2A6DF},
      {0x2A700, 0x2B81F}, {0x2B920, 0x2CEAF}, {0x2F800, 0x2FA1F},
  };
  return std::ranges::any_of(kRanges, [c](auto& r) { return r.first <= c && c <= r.second; });
}

enum class Kind : uint8_t { kLetter, kAccent, kIdeograph, kPunctuation, kSpace, kIgnored };

Kind kind_of(UChar32 c) {
  if (c == '\t' || c == '\n' || c == '\r') return Kind::kSpace;
  if (c > ' ' && c < 0x7F) return u_isalnum(c) ? Kind::kLetter : Kind::kPunctuation;
  if (is_ideograph(c)) return Kind::kIdeograph;
  const uint32_t mask = U_MASK(category(c));
  if (c == 0xFFFD || (mask & (U_GC_CC_MASK | U_GC_CF_MASK | U_GC_CO_MASK))) return Kind::kIgnored;
  if (u_isUWhiteSpace(c)) return Kind::kSpace;
  if (mask & U_GC_P_MASK) return Kind::kPunctuation;
  return mask & U_GC_MN_MASK ? Kind::kAccent : Kind::kLetter;
}

const std::array<Kind, 128> kAsciiKinds = [] {
  std::array<Kind, 128> kinds;
  for (UChar32 c = 0; c < 128; ++c) kinds[c] = kind_of(c);
  return kinds;
}();

// ICU sorts a run of combining marks in time that is quadratic in its length: text goes through it
// in pieces, which end before a character that is no mark or, in a run that no language writes,
// anywhere.
icu::UnicodeString decomposed(const icu::UnicodeString& text) {
  constexpr int32_t kPiece = 1000, kLongestPiece = 2 * kPiece;
  UErrorCode status = U_ZERO_ERROR;
  static const icu::Normalizer2* nfd = icu::Normalizer2::getNFDInstance(status);
  icu::UnicodeString result;
  for (int32_t begin = 0; begin < text.length();) {
    int32_t end = text.getChar32Limit(std::min(begin + kPiece, text.length()));
    while (end < text.length() && end < begin + kLongestPiece &&
           !nfd->hasBoundaryBefore(text.char32At(end)))
      end = text.moveIndex32(end, 1);
    result += nfd->normalize(text.tempSubStringBetween(begin, end), status);
    check(U_SUCCESS(status), "ICU cannot normalise text: ", u_errorName(status), ".");
    begin = end;
  }
  return result;
}

// The original's BasicTokenizer: normalises text and calls `on_word` with one word after the other.
template <class OnWord>
class WordCutter {
 public:
  WordCutter(bool lower_case, OnWord on_word) : lower_case_(lower_case), on_word_(on_word) {}

  void cut(std::string_view text) {
    for (size_t at = 0; at < text.size();) {
      if (U8_IS_SINGLE(text[at])) {
        const char c = text[at++];
        const char lower = lower_case_ && c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c;
        put(kAsciiKinds[c], std::string_view(&lower, 1));
      } else {
        // Decomposition moves nothing across ASCII.
        size_t end = at;
        while (end < text.size() && !U8_IS_SINGLE(text[end])) ++end;
        cut_non_ascii(text.substr(at, end - at));
        at = end;
      }
    }
    end_word();
  }

 private:
  void cut_non_ascii(std::string_view text) {
    icu::UnicodeString clean;
    for (size_t at = 0; at < text.size();) {
      UChar32 c;
      U8_NEXT_OR_FFFD(text.data(), at, text.size(), c);
      const Kind kind = kind_of(c);
      if (kind == Kind::kIgnored) continue;
      if (kind == Kind::kIdeograph) clean.append(u' ');
      clean.append(kind == Kind::kSpace ? u' ' : c);
      if (kind == Kind::kIdeograph) clean.append(u' ');
    }
    if (lower_case_) clean = decomposed(clean);
    for (int32_t at = 0; at < clean.length(); at = clean.moveIndex32(at, 1)) {
      const UChar32 c = clean.char32At(at);
      const Kind kind = kind_of(c);
      if (kind == Kind::kAccent && lower_case_) continue;
      char bytes[U8_MAX_LENGTH];
      size_t size = 0;
      U8_APPEND_UNSAFE(bytes, size, lower_case_ ? u_tolower(c) : c);
      put(kind, std::string_view(bytes, size));
    }
  }

  // Takes a character of the normalised text.
  void put(Kind kind, std::string_view character) {
    if (kind == Kind::kIgnored) return;
    if (kind == Kind::kSpace) return end_word();
    if (kind == Kind::kPunctuation) end_word();
    word_ += character;
    if (kind == Kind::kPunctuation) end_word();
  }

  void end_word() {
    if (!word_.empty()) on_word_(word_);
    word_.clear();
  }

  bool lower_case_;
  OnWord on_word_;
  std::string word_;
};

// Without trailing blanks, and without blank lines at the end.
std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    lines.emplace_back(line.substr(0, line.find_last_not_of(" \t\r") + 1));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  while (!lines.empty() && lines.back().empty()) lines.pop_back();
  return lines;
}

// Whether a token has a capital, [UNK] and its like aside.
bool has_capitals(const std::vector<std::string>& tokens) {
  return std::ranges::any_of(tokens, [](std::string_view token) {
    return !token.starts_with('[') &&
           std::ranges::any_of(token, [](char c) { return c >= 'A' && c <= 'Z'; });
  });
}

class WordPieceTokenizer : public HfTokenizer {
 public:
  explicit WordPieceTokenizer(const HfVocabulary& source)
      : HfTokenizer(source, {{"tokenizer_class", "BertTokenizer"},
                             {"do_lower_case", !has_capitals(source.tokens)},
                             {"pad_token", "[PAD]"},
                             {"unk_token", "[UNK]"},
                             {"cls_token", "[CLS]"},
                             {"sep_token", "[SEP]"},
                             {"mask_token", "[MASK]"}}),
        words_(tokens_.size()),
        continuations_(tokens_.size()),
        lower_case_(settings_.flag("do_lower_case").value_or(true)),
        max_characters_(settings_.number("max_input_chars_per_word").value_or(100)) {
    check(settings_.flag("strip_accents").value_or(lower_case_) == lower_case_ &&
              settings_.flag("tokenize_chinese_chars").value_or(true),
          source.file, ": tokenizer_config.json sets strip_accents apart from do_lower_case, or ",
          "tokenize_chinese_chars to false; quench has neither.");
    for (size_t id = 0; id < source.model_size; ++id) {
      insert(tokens_[id], static_cast<int32_t>(id));
    }
    special_ = {.pad = add_special("pad_token", source.file),
                .unk = add_special("unk_token", source.file),
                .cls = add_special("cls_token", source.file),
                .sep = add_special("sep_token", source.file),
                .mask = add_special("mask_token", source.file)};
    for (int32_t id : source.added) added_.add(tokens_[id], id);
    hash_ = content_hash(
        concat(content_of(source, added_), lower_case_ ? "uncased" : "cased", max_characters_));
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    WordCutter cutter(lower_case_, [&](std::string_view word) { encode_word(word, ids); });
    added_.split(text, ids, [&](std::string_view part) { cutter.cut(part); });
    return ids;
  }

  std::string decode(std::span<const int32_t> ids) const override {
    std::string text;
    for (int32_t id : ids) {
      check(id >= 0 && id < vocab_size(), "wordpiece: cannot decode the id ", id,
            "; expected 0 to ", vocab_size() - 1, ".");
      std::string_view token = tokens_[id];
      if (!text.empty() && token.starts_with(kContinuation)) {
        token.remove_prefix(kContinuation.size());
      } else if (!text.empty()) {
        text += ' ';
      }
      text += token;
    }
    return text;
  }

 private:
  void insert(std::string_view token, int32_t id) {
    if (token.starts_with(kContinuation) && token != kContinuation) {
      continuations_.insert(token.substr(kContinuation.size()), id);
    } else {
      words_.insert(token, id);
    }
  }

  int32_t add_special(const char* key, const std::string& file) {
    const std::string token = settings_.token(key).value_or("");
    const auto found = std::ranges::find(tokens_, token);
    check(found != tokens_.end(), file, " lacks the ", key, " \"", token, "\".");
    const auto id = static_cast<int32_t>(found - tokens_.begin());
    added_.add(token, id);
    return id;
  }

  void encode_word(std::string_view word, std::vector<int32_t>& ids) const {
    const size_t first = ids.size();
    const StringTable* table = &words_;
    bool known = word.size() <= max_characters_ || length(word) <= max_characters_;
    while (known && !word.empty()) {
      const auto [id, size] = table->longest_prefix(word);
      known = size > 0;
      ids.push_back(id);
      word.remove_prefix(size);
      table = &continuations_;
    }
    if (known) return;
    ids.resize(first);
    ids.push_back(special_.unk);
  }

  // In characters.
  static size_t length(std::string_view word) {
    return static_cast<size_t>(std::ranges::count_if(word, [](char c) { return !U8_IS_TRAIL(c); }));
  }

  StringTable words_, continuations_;  // the latter without ##
  bool lower_case_;
  size_t max_characters_;  // a longer word is [UNK]
};

}  // namespace

std::unique_ptr<Tokenizer> make_wordpiece(const HfVocabulary& vocabulary) {
  return std::make_unique<WordPieceTokenizer>(vocabulary);
}

std::unique_ptr<Tokenizer> load_wordpiece(const std::string& file) {
  const std::string text = read_file(file);
  HfVocabulary vocabulary{.file = file, .files = {{"vocab.txt", text}}, .tokens = lines_of(text)};
  vocabulary.model_size = vocabulary.tokens.size();
  return make_wordpiece(vocabulary);
}

}  // namespace quench
