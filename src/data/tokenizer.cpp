#include "data/tokenizer.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "base/json.h"
#include "data/byte_bpe.h"
#include "data/sentencepiece.h"
#include "data/tokenizer_json.h"
#include "data/wordpiece.h"
#include "io/atomic_file.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// How each kind of tokenizer is found: by the file's usual name in a folder (the first that is
// there), by the usual name or its extension for a file.
struct Loader {
  const char* file_name;
  std::unique_ptr<Tokenizer> (*load)(const std::string& file);
};
constexpr Loader kLoaders[] = {
    {"tokenizer.model", load_sentencepiece},
    {"spiece.model", load_sentencepiece},  // ALBERT's and T5's name for it
    {"vocab.txt", load_wordpiece},
    {"vocab.json", load_byte_bpe},
    {"tokenizer.json", load_tokenizer_json},
};

std::string known_names() {
  std::string names;
  for (const Loader& loader : kLoaders)
    names += concat(names.empty() ? "" : ", ", loader.file_name);
  return names;
}

// What transformers 4 adds to a vocabulary lies beside it in added_tokens.json; how it is found in
// a text, in tokenizer.json alone.
void check_added_tokens(const fs::path& file, const Tokenizer& tokenizer) {
  const Json added = parse_json(read_file(file), /*allow_exceptions=*/false);
  check(added.is_object(), file.string(), " is not a JSON object of tokens and ids.");
  for (const auto& [token, id] : added.items())
    check(id.is_number() && id.get<int64_t>() < tokenizer.vocab_size(), file.string(), " adds \"",
          token, "\"; quench reads such tokens from a tokenizer.json, and there is none.");
}

std::unique_ptr<Tokenizer> load_from_folder(const fs::path& folder) {
  const fs::path added = folder / "added_tokens.json", whole = folder / "tokenizer.json";
  if (fs::exists(added) && fs::exists(whole)) return load_tokenizer_json(whole);
  for (const Loader& loader : kLoaders) {
    if (!fs::exists(folder / loader.file_name)) continue;
    auto tokenizer = loader.load(folder / loader.file_name);
    if (fs::exists(added)) check_added_tokens(added, *tokenizer);
    return tokenizer;
  }
  fail("tokenizer: the folder ", folder.string(), " holds none of ", known_names(), ".");
}

}  // namespace

std::vector<int32_t> SpecialTokens::structural() const {
  std::vector<int32_t> ids;
  for (int32_t id : {pad, cls, sep, mask, bos, eos}) {
    if (id >= 0 && std::ranges::find(ids, id) == ids.end()) ids.push_back(id);
  }
  return ids;
}

std::pair<int32_t, int32_t> Tokenizer::enclosing() const {
  const SpecialTokens& s = special();
  if (s.cls >= 0 && s.sep >= 0) return {s.cls, s.sep};
  return {s.bos, s.bos < 0 ? s.eos : -1};
}

std::vector<int32_t> Tokenizer::document(std::string_view text, bool begins, bool ends) const {
  const auto [first, last] = enclosing();
  std::vector<int32_t> ids = encode(text);
  if (begins && first >= 0) ids.insert(ids.begin(), first);
  if (ends && last >= 0) ids.push_back(last);
  return ids;
}

std::unique_ptr<Tokenizer> load_tokenizer(const std::string& file_or_folder) {
  const fs::path path = file_or_folder;
  check(fs::exists(path), "tokenizer: ", file_or_folder, " does not exist.");
  if (fs::is_directory(path)) return load_from_folder(path);
  for (const Loader& loader : kLoaders) {
    if (path.filename() == loader.file_name) return loader.load(path);
  }
  const bool has_merges = fs::exists(path.parent_path() / "merges.txt");
  if (path.extension() == ".json" && !has_merges) return load_tokenizer_json(path);
  for (const Loader& loader : kLoaders) {
    if (path.extension() == fs::path(loader.file_name).extension()) return loader.load(path);
  }
  fail("tokenizer: cannot tell the kind of ", file_or_folder, " from its name; expected one of ",
       known_names(), ", or a name that ends like one.");
}

std::shared_ptr<const Tokenizer> find_tokenizer(const std::string& folder) {
  const bool has_one = std::ranges::any_of(kLoaders, [&](const Loader& loader) {
    return fs::exists(fs::path(folder) / loader.file_name);
  });
  return has_one ? load_from_folder(folder) : nullptr;
}

}  // namespace quench
