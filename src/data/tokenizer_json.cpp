#include "data/tokenizer_json.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/json.h"
#include "data/byte_bpe.h"
#include "data/hf_tokenizer.h"
#include "data/sentencepiece.h"
#include "data/wordpiece.h"
#include "io/atomic_file.h"

namespace quench {
namespace {

using nlohmann::json;  // the vocabulary's keys need an index

// Reads one file; `file` names it in errors.
class TokenizerFile {
 public:
  explicit TokenizerFile(const std::string& file)
      : file_(file), text_(read_file(file)), json_(parse_indexed_json(text_)) {
    check(json_.is_object() && at("model").is_object(), file,
          " is not a tokenizer.json: it has no model.");
  }

  std::unique_ptr<Tokenizer> load() const {
    const json& type = at("model", "type");
    if (type == "WordPiece") return wordpiece();
    if (type == "BPE" && at("pre_tokenizer", "type") == "ByteLevel") return byte_bpe();
    if (type == "BPE" || type == "Unigram") return make_sentencepiece(json_, file_);
    fail(file_, ": the model is of the type ", dump(type), "; expected WordPiece, BPE or Unigram.");
  }

 private:
  // Null where it is absent.
  const json& at(const char* section, const char* key = nullptr) const {
    static const json null;
    const auto part = json_.find(section);
    if (part == json_.end() || key == nullptr) return part == json_.end() ? null : *part;
    const auto value = part->find(key);
    return value == part->end() ? null : *value;
  }

  void expect(const char* section, const char* key, const std::vector<json>& values) const {
    const json& value = at(section, key);
    check(std::ranges::find(values, value) != values.end(), file_, ": ", section, ".", key, " is ",
          dump(value), "; quench has only ", dump(json(values)), ".");
  }

  std::unique_ptr<Tokenizer> wordpiece() const {
    expect("model", "continuing_subword_prefix", {"##"});
    expect("normalizer", "type", {"BertNormalizer"});
    expect("normalizer", "clean_text", {true});
    expect("normalizer", "handle_chinese_chars", {true});
    expect("normalizer", "strip_accents", {nullptr, at("normalizer", "lowercase")});
    expect("pre_tokenizer", "type", {"BertPreTokenizer"});
    HfVocabulary vocabulary = read_vocabulary();
    vocabulary.settings = {{"do_lower_case", at("normalizer", "lowercase")},
                           {"strip_accents", nullptr},
                           {"tokenize_chinese_chars", true},
                           {"unk_token", at("model", "unk_token")},
                           {"max_input_chars_per_word", at("model", "max_input_chars_per_word")}};
    const auto [first, last] = enclosing();
    check(first.empty() == last.empty(), file_, ": the post_processor adds one token; WordPiece ",
          "documents begin and end with one.");
    if (!first.empty()) vocabulary.settings.update({{"cls_token", first}, {"sep_token", last}});
    return make_wordpiece(vocabulary);
  }

  std::unique_ptr<Tokenizer> byte_bpe() const {
    expect("pre_tokenizer", "use_regex", {nullptr, true});
    expect("model", "dropout", {nullptr, 0});
    expect("model", "ignore_merges", {nullptr, false});
    expect("model", "byte_fallback", {nullptr, false});
    expect("model", "continuing_subword_prefix", {nullptr, ""});
    expect("model", "end_of_word_suffix", {nullptr, ""});
    check(at("normalizer").is_null(), file_, ": the normalizer is ", dump(at("normalizer")),
          "; quench has none for byte-level BPE.");
    HfVocabulary vocabulary = read_vocabulary();
    vocabulary.merges = merge_lines(at("model", "merges"), file_);
    const auto [first, last] = enclosing();
    check(first.empty() || last.empty(), file_, ": the post_processor adds ", first, " and ", last,
          "; byte-level BPE documents have one of them.");
    vocabulary.settings = {{"add_prefix_space", at("pre_tokenizer", "add_prefix_space")},
                           {"add_bos_token", !first.empty()}};
    if (!first.empty()) vocabulary.settings["bos_token"] = first;
    if (!last.empty()) vocabulary.settings["eos_token"] = last;
    return make_byte_bpe(vocabulary);
  }

  HfVocabulary read_vocabulary() const {
    json ids = at("model", "vocab");
    check(ids.is_object(), file_, ": model.vocab is not a JSON object of tokens and ids.");
    HfVocabulary vocabulary{.file = file_, .files = {{"tokenizer.json", text_}}, .tokens = {}};
    vocabulary.model_size = ids.size();
    for (const json& token : at("added_tokens")) {
      const auto text = token.at("content").get<std::string>();
      check(!text.empty(), file_, ": an added token is empty.");
      for (const char* flag : {"single_word", "lstrip", "rstrip", "normalized"}) {
        const bool matters = flag != std::string("normalized") || !at("normalizer").is_null();
        check(!matters || !token.value(flag, false), file_, ": the added token \"", text, "\" is ",
              flag, "; quench has no such tokens.");
      }
      const auto id = token.at("id").get<size_t>();
      check(ids.contains(text) ? ids[text] == id : id >= vocabulary.model_size, file_,
            ": the added token \"", text, "\" has the id ", id, " of another token.");
      ids[text] = id;
      vocabulary.added.push_back(static_cast<int32_t>(id));
    }
    vocabulary.tokens = tokens_by_id(ids, file_);
    return vocabulary;
  }

  // The tokens before and behind a document; empty: none.
  std::pair<std::string, std::string> enclosing() const {
    expect("post_processor", "type",
           {nullptr, "ByteLevel", "BertProcessing", "TemplateProcessing"});
    if (at("post_processor", "type") == "BertProcessing")
      return {at("post_processor", "cls").at(0), at("post_processor", "sep").at(0)};
    std::pair<std::string, std::string> tokens;
    bool before = true;
    for (const json& part : at("post_processor", "single")) {
      if (part.contains("Sequence")) {
        before = false;
        continue;
      }
      std::string& token = before ? tokens.first : tokens.second;
      check(token.empty(), file_,
            ": the post_processor adds several tokens on one side of a text; "
            "quench adds one.");
      token = part.at("SpecialToken").at("id");
    }
    return tokens;
  }

  std::string file_, text_;
  json json_;
};

}  // namespace

std::unique_ptr<Tokenizer> load_tokenizer_json(const std::string& file) try {
  return TokenizerFile(file).load();
} catch (const json::exception& error) {
  fail(file, " is not a tokenizer.json: ", error.what(), ".");
}

}  // namespace quench
