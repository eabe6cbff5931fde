#include "data/hf_tokenizer.h"

#include "base/error.h"
#include "io/atomic_file.h"

namespace quench {

namespace fs = std::filesystem;

TokenizerSettings::TokenizerSettings(const fs::path& folder, Json defaults)
    : values_(std::move(defaults)), file_((folder / "tokenizer_config.json").string()) {
  if (!fs::exists(file_)) return;
  const Json values = Json::parse(read_file(file_), nullptr, /*allow_exceptions=*/false);
  check(values.is_object(), file_, " is not a JSON object.");
  values_.update(values);
}

std::optional<bool> TokenizerSettings::flag(const std::string& key) const {
  const Json value = values_.value(key, Json());
  if (value.is_null()) return std::nullopt;
  check(value.is_boolean(), file_, ": ", key, " is ", value.dump(), "; expected true or false.");
  return value.get<bool>();
}

std::optional<std::string> TokenizerSettings::token(const std::string& key) const {
  Json value = values_.value(key, Json());
  if (value.is_object()) value = value.value("content", Json(""));
  if (value.is_null()) return std::nullopt;
  check(value.is_string() && value != "", file_, ": ", key, " is ", value.dump(),
        "; expected a token.");
  return value.get<std::string>();
}

void TokenizerSettings::save(const fs::path& folder) const {
  write_file_atomically(folder / "tokenizer_config.json", values_.dump(2) + "\n");
}

void AddedTokens::add(std::string token, int32_t id) {
  begins_token_[static_cast<unsigned char>(token[0])] = true;
  tokens_.push_back({std::move(token), id});
}

const AddedTokens::Token* AddedTokens::longest_at(std::string_view text) const {
  const Token* longest = nullptr;
  for (const Token& token : tokens_) {
    if (text.starts_with(token.text) && (!longest || token.text.size() > longest->text.size())) {
      longest = &token;
    }
  }
  return longest;
}

}  // namespace quench
