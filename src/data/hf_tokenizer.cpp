#include "data/hf_tokenizer.h"

#include "base/error.h"
#include "io/atomic_file.h"

namespace quench {

namespace fs = std::filesystem;

std::vector<std::string> tokens_by_id(const nlohmann::json& vocabulary, const std::string& file) {
  check(vocabulary.is_object(), file, " is not a JSON object of tokens and ids.");
  std::vector<std::string> tokens(vocabulary.size());
  for (const auto& [token, id] : vocabulary.items()) {
    check(id.is_number_unsigned() && id.get<size_t>() < tokens.size() &&
              tokens[id.get<size_t>()].empty(),
          file, ": token \"", token, "\" has the id ", dump(id), "; expected each of 0 to ",
          tokens.size() - 1, " once.");
    tokens[id.get<size_t>()] = token;
  }
  return tokens;
}

std::vector<std::string> merge_lines(const nlohmann::json& merges, const std::string& file) {
  std::vector<std::string> lines;
  for (const auto& merge : merges) {
    const bool pair =
        merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string();
    check(pair || merge.is_string(), file, ": ", dump(merge), " is no merge; expected two tokens.");
    lines.push_back(pair ? concat(merge[0].get_ref<const std::string&>(), " ",
                                  merge[1].get_ref<const std::string&>())
                         : merge.get<std::string>());
  }
  return lines;
}

TokenizerSettings::TokenizerSettings(const fs::path& folder, Json defaults, const Json& settings)
    : values_(std::move(defaults)), file_((folder / "tokenizer_config.json").string()) {
  if (fs::exists(file_)) {
    const Json values = parse_json(read_file(file_), /*allow_exceptions=*/false);
    check(values.is_object(), file_, " is not a JSON object.");
    values_.update(values);
  }
  values_.update(settings);
}

std::optional<bool> TokenizerSettings::flag(const std::string& key) const {
  const Json value = values_.value(key, Json());
  if (value.is_null()) return std::nullopt;
  check(value.is_boolean(), file_, ": ", key, " is ", dump(value), "; expected true or false.");
  return value.get<bool>();
}

std::optional<size_t> TokenizerSettings::number(const std::string& key) const {
  const Json value = values_.value(key, Json());
  if (value.is_null()) return std::nullopt;
  check(value.is_number_unsigned(), file_, ": ", key, " is ", dump(value), "; expected a number.");
  return value.get<size_t>();
}

std::optional<std::string> TokenizerSettings::token(const std::string& key) const {
  Json value = values_.value(key, Json());
  if (value.is_object()) value = value.value("content", Json(""));
  if (value.is_null()) return std::nullopt;
  check(value.is_string() && value != "", file_, ": ", key, " is ", dump(value),
        "; expected a token.");
  return value.get<std::string>();
}

void TokenizerSettings::save(const fs::path& folder) const {
  write_file_atomically(folder / "tokenizer_config.json", dump(values_, 2) + "\n");
}

void AddedTokens::add(std::string token, int32_t id) {
  begins_token_[static_cast<unsigned char>(token[0])] = true;
  tokens_.push_back({std::move(token), id});
}

std::set<int32_t> AddedTokens::ids() const {
  std::set<int32_t> ids;
  for (const Token& token : tokens_) ids.insert(token.id);
  return ids;
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

std::string content_of(const HfVocabulary& vocabulary, const AddedTokens& added) {
  std::string text;
  for (const std::string& token : vocabulary.tokens) text += token + '\n';
  for (const std::string& merge : vocabulary.merges) text += merge + '\n';
  for (int32_t id : added.ids()) text += std::to_string(id) + '\n';
  return text;
}

HfTokenizer::HfTokenizer(const HfVocabulary& source, Json default_settings)
    : tokens_(source.tokens),
      settings_(fs::path(source.file).parent_path(), std::move(default_settings), source.settings),
      files_(source.files) {}

void HfTokenizer::save(const std::string& folder) const {
  for (const auto& [name, content] : files_)
    write_file_atomically(fs::path(folder) / name, content);
  settings_.save(folder);
}

}  // namespace quench
