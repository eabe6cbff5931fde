#include "data/sentencepiece.h"

#include <sentencepiece_processor.h>
#include <sentencepiece_trainer.h>

#include <algorithm>
#include <exception>
#include <filesystem>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
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

class SentencePieceTokenizer : public Tokenizer {
 public:
  // `model` is a serialized model, `origin` names it in errors.
  SentencePieceTokenizer(std::string model, const std::string& origin) : model_(std::move(model)) {
    check(load() && processor_.GetPieceSize() > 0, origin,
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
    std::vector<int> ids;
    const auto status = processor_.Encode(text, &ids);
    check(status.ok(), "sentencepiece cannot encode a text of ", text.size(),
          " bytes: ", reason(status));
    return ids;
  }

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
};

// Hands the lines to the trainer, leaving out blank ones (a text of nothing else would end the
// program there).
class Lines : public spm::SentenceIterator {
 public:
  explicit Lines(const LineSource& source) : source_(source) { Next(); }
  bool done() const override { return done_; }
  void Next() override {
    do done_ = !source_(line_);
    while (!done_ && std::ranges::all_of(line_, [](unsigned char c) { return c <= ' '; }));
  }
  const std::string& value() const override { return line_; }
  spm::util::Status status() const override { return {}; }

 private:
  const LineSource& source_;
  std::string line_;
  bool done_ = false;
};

void check_options(const SentencePieceOptions& o) {
  check(o.model_type == "unigram" || o.model_type == "bpe", "sentencepiece: model_type is \"",
        o.model_type, "\"; expected unigram or bpe.");
  check(o.vocab_size > 5 && o.vocab_size <= 1'000'000, "sentencepiece: vocab_size is ",
        o.vocab_size, "; expected 6 to 1000000.");
  check(o.character_coverage >= 0.98 && o.character_coverage <= 1,
        "sentencepiece: character_coverage is ", o.character_coverage, "; expected 0.98 to 1.");
  check(o.input_sentence_size >= 0, "sentencepiece: input_sentence_size is ", o.input_sentence_size,
        "; expected 0 (all lines) or more.");
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
  Lines iterator(lines);
  check(!iterator.done(), "sentencepiece: there is no text to train on.");
  std::string model;
  const auto status = spm::SentencePieceTrainer::Train(arguments, &iterator, &model);
  check(status.ok(), "sentencepiece training failed: ", reason(status));
  round_scores(model);
  auto tokenizer = std::make_unique<SentencePieceTokenizer>(std::move(model), "the trained model");
  check(tokenizer->vocab_size() == options.vocab_size,
        "sentencepiece: the text is too small for a vocabulary of ", options.vocab_size,
        "; it supports at most ", tokenizer->vocab_size(),
        ". Lower vocab_size, or give more text.");
  return tokenizer;
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
