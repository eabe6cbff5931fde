#include "data/sentencepiece.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <filesystem>
#include <initializer_list>
#include <iostream>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/child_process.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "data/hf_tokenizer.h"
#include "data/sentencepiece_json.h"
#include "io/atomic_file.h"

namespace quench {
namespace {

namespace spm = sentencepiece;

// The library's message without the source line and condition that it begins with.
std::string reason(const spm::util::Status& status) {
  const std::string_view message = status.message();
  const size_t bracket = message.find("] ");
  return std::string(bracket == message.npos ? message : message.substr(bracket + 2));
}

bool is_blank(unsigned char c) { return c <= ' '; }

// Where the character begins that `at` lies in; `text` is UTF-8.
size_t character_begin(std::string_view text, size_t at) {
  for (int i = 0; i < 3 && (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80; ++i) --at;
  return at;
}

// The library takes time that grows with the square of a run of unknown characters: words that are
// longer than this are cut for it.
constexpr size_t kLongestWord = 65536;  // bytes

class SentencePieceTokenizer : public Tokenizer {
 public:
  // `model` is a serialized model, `origin` names it in errors.
  SentencePieceTokenizer(std::string model, const std::string& origin) : model_(std::move(model)) {
    check(is_sound(model_) && load() && processor_.GetPieceSize() > 0, origin,
          " is not a sentencepiece model. Perhaps an incomplete download or a corrupt file?");
    special_ = {.pad = first_of({"[PAD]", "<pad>"}, processor_.pad_id()),
                .unk = processor_.unk_id(),
                .cls = first_of({"[CLS]"}, -1),
                .sep = first_of({"[SEP]"}, -1),
                .mask = first_of({"[MASK]", "<mask>"}, -1),
                .bos = processor_.bos_id(),
                .eos = processor_.eos_id()};
  }

  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    size_t begin = 0, word = 0;  // of what is not encoded yet, of the word
    for (size_t at = 0; at < text.size(); ++at) {
      if (is_blank(static_cast<unsigned char>(text[at]))) {
        word = at + 1;
      } else if (at - word == kLongestWord) {
        const size_t end = character_begin(text, at);
        encode_part(text.substr(begin, end - begin), ids);
        begin = word = end;
        ++words_cut_;
      }
    }
    encode_part(text.substr(begin), ids);
    return ids;
  }

  int64_t words_cut() const override { return words_cut_; }

  std::string decode(std::span<const int32_t> ids) const override {
    for (int32_t id : ids) {
      check(id >= 0 && id < vocab_size(), "sentencepiece cannot decode the id ", id,
            "; expected 0 to ", vocab_size() - 1, ".");
    }
    std::string text;
    const auto status = processor_.Decode(std::vector<int>(ids.begin(), ids.end()), &text);
    check(status.ok(), "sentencepiece cannot decode: ", reason(status));
    return text;
  }

  int64_t vocab_size() const override { return processor_.GetPieceSize(); }
  const SpecialTokens& special() const override { return special_; }
  std::string hash() const override { return content_hash(model_); }

  // With what transformers opens, where it can: tokenizer.json and its settings.
  void save(const std::string& folder) const override {
    const std::filesystem::path path = folder;
    write_file_atomically(path / "tokenizer.model", model_);
    const std::optional<Json> json = tokenizer_json();
    if (!json) return;
    write_file_atomically(path / "tokenizer.json", json->dump() + "\n");
    write_file_atomically(path / "tokenizer_config.json", dump(settings(), 2) + "\n");
  }

  std::optional<Json> tokenizer_json() const {
    const auto [first, last] = enclosing();
    return to_tokenizer_json(model_, piece(first), piece(last));
  }

 private:
  void encode_part(std::string_view text, std::vector<int32_t>& ids) const {
    std::vector<int> part;
    const auto status = processor_.Encode(text, &part);
    check(status.ok(), "sentencepiece cannot encode a text of ", text.size(),
          " bytes: ", reason(status));
    ids.insert(ids.end(), part.begin(), part.end());
  }

  std::string piece(int32_t id) const { return id < 0 ? "" : processor_.IdToPiece(id); }

  // No token_type_ids among the inputs: OPT has none, and BERT's are 0 without them.
  Json settings() const {
    Json json = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"model_input_names", {"input_ids", "attention_mask"}},
                 {"clean_up_tokenization_spaces", false}};
    const std::pair<const char*, int32_t> tokens[] = {
        {"pad_token", special_.pad}, {"unk_token", special_.unk},   {"cls_token", special_.cls},
        {"sep_token", special_.sep}, {"mask_token", special_.mask}, {"bos_token", special_.bos},
        {"eos_token", special_.eos}};
    for (const auto& [key, id] : tokens) {
      if (id >= 0) json[key] = piece(id);
    }
    return json;
  }

  bool load() {
    try {
      return processor_.LoadFromSerializedProto(model_).ok();
    } catch (const std::exception&) {  // from its tries
      return false;
    }
  }

  int32_t first_of(std::initializer_list<std::string_view> pieces, int32_t otherwise) const {
    for (std::string_view piece : pieces) {
      const int32_t id = processor_.PieceToId(piece);
      if (processor_.IdToPiece(id) == piece) return id;  // unknown pieces have the id of <unk>
    }
    return otherwise;
  }

  std::string model_;
  spm::SentencePieceProcessor processor_;
  SpecialTokens special_;
  mutable std::atomic<int64_t> words_cut_ = 0;
};

// A line that is longer is handed on in parts: the unigram trainer takes time that grows with the
// square of a line that repeats itself, and BPE's ends its process on words of more than 65535
// characters. Parts end at blanks, which changes no word; a word without end is cut.
constexpr size_t kLongestLine = 4096;  // bytes

// Hands the lines to the trainer, leaving out blank ones.
class Lines : public spm::SentenceIterator {
 public:
  explicit Lines(const LineSource& source) : source_(source) { Next(); }
  bool done() const override { return done_; }
  void Next() override {
    do {
      if (at_ == whole_.size()) {
        at_ = 0;
        inside_word_ = false;
        whole_.clear();
        done_ = !source_(whole_);
      }
      take_part();
    } while (!done_ && std::ranges::all_of(part_, is_blank));
  }
  const std::string& value() const override { return part_; }
  spm::util::Status status() const override { return {}; }
  int64_t words_cut() const { return words_cut_; }

 private:
  void take_part() {
    size_t end = whole_.size();
    if (end - at_ > kLongestLine) {
      end = at_ + kLongestLine;
      while (end > at_ && !is_blank(static_cast<unsigned char>(whole_[end]))) --end;
      const bool cuts = end == at_;
      if (cuts) {
        end = at_ + kLongestLine;
        end = character_begin(whole_, end);
      }
      words_cut_ += cuts && !inside_word_;
      inside_word_ = cuts;
    }
    part_.assign(whole_, at_, end - at_);
    // The trainer's own mark for the unknown: it leaves out lines that hold one, without a word.
    constexpr std::string_view kUnknown = "\u2585";
    for (size_t mark; (mark = part_.find(kUnknown)) != part_.npos;)
      part_.replace(mark, kUnknown.size(), " ");
    at_ = end;
  }

  const LineSource& source_;
  std::string whole_, part_;
  size_t at_ = 0;  // of what is left of `whole_`
  bool inside_word_ = false;
  int64_t words_cut_ = 0;
  bool done_ = false;
};

// The trainer's last words, for people.
std::string explained(std::string why) {
  constexpr std::string_view kEnd = "Program terminated with an unrecoverable error.";
  if (const size_t at = why.find(kEnd); at != why.npos) why.erase(at);
  if (why.find_first_not_of(". ") == why.npos)
    return "it gives no reason; perhaps it has too few different characters";
  if (why.find("[!required_chars_") != why.npos || why.find("sentences_.empty") != why.npos)
    return "it holds no character that a piece could be made of, but blanks and control characters";
  return why;
}

void check_options(const SentencePieceOptions& o) {
  check(o.model_type == "unigram" || o.model_type == "bpe", "sentencepiece: model_type is \"",
        o.model_type, "\"; expected unigram or bpe.");
  check(o.vocab_size > 5 && o.vocab_size <= 1'000'000, "sentencepiece: vocab_size is ",
        o.vocab_size, "; expected 6 to 1000000.");
  check(o.character_coverage >= 0.98 && o.character_coverage <= 1,
        "sentencepiece: character_coverage is ", o.character_coverage, "; expected 0.98 to 1.");
  check(o.input_sentence_size == 0 || o.input_sentence_size > 100,
        "sentencepiece: input_sentence_size is ", o.input_sentence_size,
        "; expected 0 (all lines), or more than 100.");
}

}  // namespace

std::unique_ptr<Tokenizer> train_sentencepiece(const LineSource& lines,
                                               const SentencePieceOptions& options) {
  check_options(options);
  const std::unordered_map<std::string, std::string> arguments = {
      {"model_type", options.model_type},
      {"vocab_size", std::to_string(options.vocab_size)},
      {"character_coverage", concat(options.character_coverage)},
      {"input_sentence_size", std::to_string(options.input_sentence_size)},
      {"max_sentence_length", "1073741824"},  // by default it would skip lines above 4192 bytes
      {"hard_vocab_limit", "false"},          // the size is checked below
      {"pad_id", "0"},
      {"pad_piece", "[PAD]"},
      {"unk_id", "1"},
      {"unk_piece", "[UNK]"},
      {"bos_id", "2"},
      {"bos_piece", "[CLS]"},
      {"eos_id", "3"},
      {"eos_piece", "[SEP]"},
      {"control_symbols", "[MASK]"},
      // Part of the result: the sums of the unigram trainer are ordered by it.
      {"num_threads", "16"},
      {"minloglevel", "2"},
  };
  // The trainer ends its process on text that it cannot use.
  std::string model;
  try {
    model = in_child_process([&] {
      Lines iterator(lines);
      check(!iterator.done(), "there is no text to train on");
      std::string trained;
      const auto status = spm::SentencePieceTrainer::Train(arguments, &iterator, &trained);
      if (!status.ok()) {
        std::cerr << (reason(status).empty() ? "." : reason(status));
        ::_exit(1);
      }
      return std::to_string(iterator.words_cut()) + '\n' + trained;
    });
  } catch (const ChildEnded& error) {
    fail("sentencepiece cannot train a tokenizer of ", options.vocab_size,
         " pieces on this text: ", explained(error.what()));
  }
  const size_t end = model.find('\n');
  if (const std::string words_cut = model.substr(0, end); words_cut != "0")
    log_warning(concat(words_cut, " words of more than ", kLongestLine,
                       " bytes were cut into such pieces for the tokenizer's training"));
  model.erase(0, end + 1);
  round_scores(model);
  auto tokenizer = std::make_unique<SentencePieceTokenizer>(std::move(model), "the trained model");
  check(tokenizer->vocab_size() == options.vocab_size,
        "sentencepiece: the text is too small for a vocabulary of ", options.vocab_size,
        "; it supports at most ", tokenizer->vocab_size(),
        ". Lower vocab_size, or give more text.");
  return tokenizer;
}

LineSource lines_of(CorpusReader& reader) {
  return [&reader](std::string& line) {
    Document document;
    if (!reader.next(document)) return false;
    line = std::move(document.text);
    return true;
  };
}

std::unique_ptr<Tokenizer> load_sentencepiece(const std::string& file) {
  return std::make_unique<SentencePieceTokenizer>(read_file(file), file);
}

std::unique_ptr<Tokenizer> make_sentencepiece(const nlohmann::json& json, const std::string& file) {
  auto tokenizer = std::make_unique<SentencePieceTokenizer>(from_tokenizer_json(json, file), file);
  const std::optional<Json> written = tokenizer->tokenizer_json();
  check(written.has_value(), file, " is not of the form that quench writes.");
  nlohmann::json expected = *written, found = json;
  if (found["model"].contains("merges")) {
    found["model"]["merges"] = merge_lines(found["model"]["merges"], file);
  }
  expected["model"]["vocab"] = found["model"]["vocab"];  // its last digits may differ
  for (const char* key :
       {"model", "added_tokens", "normalizer", "pre_tokenizer", "post_processor"}) {
    check(found[key] == expected[key], file, ": the ", key, " is none that quench writes, and of ",
          json["model"]["type"], " models quench reads no other. If there is a sentencepiece ",
          "model, put it there as tokenizer.model.");
  }
  return tokenizer;
}

}  // namespace quench
