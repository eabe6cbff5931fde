// What tokenizers in Hugging Face's files have in common: the settings in tokenizer_config.json,
// and special tokens that are recognised in the text itself.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "data/tokenizer.h"

namespace quench {

// What a tokenizer is made of, whichever files say so.
struct HfVocabulary {
  std::string file;                          // the one that errors name
  std::map<std::string, std::string> files;  // by name: what saving writes again
  std::vector<std::string> tokens;           // by id
  size_t model_size = 0;  // the tokens from here on are found in the text itself alone
  std::vector<std::string> merges = {};  // byte-level BPE: "left right", the first goes first
  std::string merges_file = file;        // the one that errors about merges name
  std::vector<int32_t> added = {};  // to be found in the text itself, beside the special tokens
  Json settings = Json::object();   // go before those of tokenizer_config.json
};

// The keys of `vocabulary`, a JSON object of tokens and ids, by id. Throws Error, which names
// `file`, unless each id up to the largest is there once.
std::vector<std::string> tokens_by_id(const nlohmann::json& vocabulary, const std::string& file);

// The merges of a tokenizer.json, which are strings "left right" or arrays of the two.
std::vector<std::string> merge_lines(const nlohmann::json& merges, const std::string& file);

// `defaults`, overlaid with the folder's tokenizer_config.json where there is one, and with
// `settings`.
class TokenizerSettings {
 public:
  TokenizerSettings(const std::filesystem::path& folder, Json defaults,
                    const Json& settings = Json::object());

  // Absent and null are nullopt; throw Error on a wrong type.
  std::optional<bool> flag(const std::string& key) const;
  std::optional<size_t> number(const std::string& key) const;
  std::optional<std::string> token(const std::string& key) const;  // a string, or {"content": ...}

  void save(const std::filesystem::path& folder) const;

 private:
  Json values_;
  std::string file_;
};

// Tokens that stand for themselves wherever they occur, before any other rule. Where several match,
// the longest counts.
class AddedTokens {
 public:
  void add(std::string token, int32_t id);
  std::set<int32_t> ids() const;

  // Appends the ids of `text` to `ids`: of added tokens itself, of what stands between them by
  // calling `encode(part)`.
  template <class Encode>
  void split(std::string_view text, std::vector<int32_t>& ids, Encode encode) const {
    size_t begin = 0;
    for (size_t at = 0; at < text.size();) {
      const Token* token = nullptr;
      if (begins_token_[static_cast<unsigned char>(text[at])]) token = longest_at(text.substr(at));
      if (token == nullptr) {
        ++at;
        continue;
      }
      encode(text.substr(begin, at - begin));
      ids.push_back(token->id);
      begin = at += token->text.size();
    }
    encode(text.substr(begin));
  }

 private:
  struct Token {
    std::string text;
    int32_t id;
  };
  const Token* longest_at(std::string_view text) const;

  std::vector<Token> tokens_;
  std::array<bool, 256> begins_token_{};  // by first byte
};

// What of a tokenizer names its content: the same whichever files it came from.
std::string content_of(const HfVocabulary& vocabulary, const AddedTokens& added);

// What both kinds of tokenizers are beside their encoding.
class HfTokenizer : public Tokenizer {
 public:
  int64_t vocab_size() const override { return static_cast<int64_t>(tokens_.size()); }
  const SpecialTokens& special() const override { return special_; }
  std::string hash() const override { return hash_; }
  void save(const std::string& folder) const override;

 protected:
  HfTokenizer(const HfVocabulary& source, Json default_settings);

  std::vector<std::string> tokens_;  // by id
  TokenizerSettings settings_;
  AddedTokens added_;
  SpecialTokens special_;
  std::string hash_;

 private:
  std::map<std::string, std::string> files_;  // that save() writes
};

}  // namespace quench
