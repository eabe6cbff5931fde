#include "data/sentencepiece_json.h"

#include <sentencepiece_model.pb.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include "base/error.h"
#include "data/corpus.h"
#include "data/hf_tokenizer.h"

namespace quench {
namespace {

using sentencepiece::ModelProto;
using sentencepiece::NormalizerSpec;
using sentencepiece::TrainerSpec;
using Piece = ModelProto::SentencePiece;

constexpr std::string_view kSpace = "\xE2\x96\x81";  // stands for a space in pieces
constexpr std::string_view kBase64 =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

std::string to_base64(std::string_view bytes) {
  std::string text;
  for (; !bytes.empty(); bytes.remove_prefix(std::min<size_t>(3, bytes.size()))) {
    uint32_t bits = 0;
    for (size_t i = 0; i < 3; ++i) {
      bits = bits << 8 | (i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0);
    }
    for (size_t i = 0; i < 4; ++i) {
      text += i <= bytes.size() ? kBase64[bits >> (18 - 6 * i) & 63] : '=';
    }
  }
  return text;
}

// Ends at the padding, or at what is not Base64.
std::string from_base64(std::string_view text) {
  std::string bytes;
  uint32_t bits = 0;
  for (size_t i = 0, value; i < text.size() && (value = kBase64.find(text[i])) != kBase64.npos;) {
    bits = bits << 6 | static_cast<uint32_t>(value);
    if (++i % 4 != 1) bytes += static_cast<char>(bits >> (6 - 2 * ((i - 1) % 4)));
  }
  return bytes;
}

bool is_byte(std::string_view piece) {  // as <0x0A>
  return piece.size() == 6 && piece.starts_with("<0x") && piece.ends_with('>');
}

bool has_equal(const ModelProto& model) {
  const TrainerSpec& trainer = model.trainer_spec();
  return (trainer.model_type() == TrainerSpec::UNIGRAM ||
          trainer.model_type() == TrainerSpec::BPE) &&
         !trainer.treat_whitespace_as_suffix() && model.normalizer_spec().escape_whitespaces() &&
         std::ranges::none_of(model.pieces(), [](const Piece& piece) {
           return piece.type() == Piece::UNUSED || piece.type() == Piece::USER_DEFINED;
         });
}

Json added_tokens(const ModelProto& model) {
  Json tokens = Json::array();
  for (int id = 0; id < model.pieces_size(); ++id) {
    const Piece& piece = model.pieces(id);
    if (piece.type() != Piece::CONTROL && piece.type() != Piece::UNKNOWN) continue;
    tokens.push_back({{"id", id},
                      {"content", piece.piece()},
                      {"single_word", false},
                      {"lstrip", false},
                      {"rstrip", false},
                      {"normalized", false},
                      {"special", true}});
  }
  return tokens;
}

Json replace(const char* kind, std::string_view pattern, std::string_view content) {
  return {{"type", "Replace"}, {"pattern", {{kind, pattern}}}, {"content", content}};
}

Json normalizer(const NormalizerSpec& spec) {
  Json steps = Json::array();
  if (!spec.precompiled_charsmap().empty()) {
    steps.push_back({{"type", "Precompiled"},
                     {"precompiled_charsmap", to_base64(spec.precompiled_charsmap())}});
  }
  if (spec.remove_extra_whitespaces()) {
    steps.push_back(replace("Regex", R"(\A +| +\z)", ""));
    steps.push_back(replace("Regex", " {2,}", " "));
  }
  // Not Metaspace's own prefix, which a text that begins with a space does not get.
  if (spec.add_dummy_prefix()) steps.push_back({{"type", "Prepend"}, {"prepend", kSpace}});
  steps.push_back(replace("String", " ", kSpace));
  return {{"type", "Sequence"}, {"normalizers", steps}};
}

Json metaspace(const char* prepend_scheme, bool split) {
  return {{"type", "Metaspace"},
          {"replacement", kSpace},
          {"prepend_scheme", prepend_scheme},
          {"split", split}};
}

// Words may be taken one by one where no piece reaches into the next.
Json pre_tokenizer(const ModelProto& model) {
  const bool split = std::ranges::none_of(model.pieces(), [](const Piece& piece) {
    return piece.piece().find(kSpace, 1) != std::string::npos;
  });
  return metaspace("never", split);
}

Json decoder(const ModelProto& model) {
  const Json words =
      metaspace(model.normalizer_spec().add_dummy_prefix() ? "always" : "never", true);
  if (!model.trainer_spec().byte_fallback()) return words;
  const Json steps = {{{"type", "ByteFallback"}}, {{"type", "Fuse"}}, words};
  return {{"type", "Sequence"}, {"decoders", steps}};
}

Json post_processor(const ModelProto& model, const std::string& prefix, const std::string& suffix) {
  const auto special = [](const std::string& token, int type) -> Json {
    return {{"SpecialToken", {{"id", token}, {"type_id", type}}}};
  };
  const auto sequence = [](const char* name, int type) -> Json {
    return {{"Sequence", {{"id", name}, {"type_id", type}}}};
  };
  Json single = Json::array(), pair = Json::array(), tokens = Json::object();
  if (!prefix.empty()) single.push_back(special(prefix, 0));
  single.push_back(sequence("A", 0));
  if (!suffix.empty()) single.push_back(special(suffix, 0));
  pair = single;
  if (!prefix.empty() && suffix.empty()) pair.push_back(special(prefix, 1));
  pair.push_back(sequence("B", 1));
  if (!suffix.empty()) pair.push_back(special(suffix, 1));
  for (int id = 0; id < model.pieces_size(); ++id) {
    const std::string& piece = model.pieces(id).piece();
    if (piece != prefix && piece != suffix) continue;
    tokens[piece] = {{"id", piece}, {"ids", {id}}, {"tokens", {piece}}};
  }
  return {{"type", "TemplateProcessing"},
          {"single", single},
          {"pair", pair},
          {"special_tokens", tokens}};
}

int unknown_id(const ModelProto& model) {
  const auto unknown = std::ranges::find(model.pieces(), Piece::UNKNOWN, &Piece::type);
  return static_cast<int>(unknown - model.pieces().begin());
}

Json unigram(const ModelProto& model) {
  Json vocabulary = Json::array();
  for (const Piece& piece : model.pieces()) {
    vocabulary.push_back(Json::array({piece.piece(), static_cast<double>(piece.score())}));
  }
  return {{"type", "Unigram"},
          {"unk_id", unknown_id(model)},
          {"vocab", vocabulary},
          {"byte_fallback", model.trainer_spec().byte_fallback()}};
}

// sentencepiece merges any two neighbours that make a piece, that of the best score first;
// `tokenizers` has a list of pairs.
Json merges(const ModelProto& model) {
  std::vector<const Piece*> pieces;
  std::unordered_map<std::string_view, const Piece*> known;
  for (const Piece& piece : model.pieces()) {
    if (piece.type() == Piece::NORMAL) pieces.push_back(known[piece.piece()] = &piece);
  }
  std::ranges::stable_sort(pieces, std::greater<>(), &Piece::score);
  Json pairs = Json::array();
  for (const Piece* piece : pieces) {
    const std::string_view text = piece->piece();
    for (size_t at = 1; at < text.size(); ++at) {
      const std::string_view left = text.substr(0, at), right = text.substr(at);
      if (known.contains(left) && known.contains(right)) pairs.push_back(concat(left, " ", right));
    }
  }
  return pairs;
}

Json bpe(const ModelProto& model) {
  Json::object_t vocabulary;
  for (int id = 0; id < model.pieces_size(); ++id) {
    vocabulary.emplace_back(model.pieces(id).piece(), id);  // insertion would search each time
  }
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", model.pieces(unknown_id(model)).piece()},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", true},
          {"byte_fallback", model.trainer_spec().byte_fallback()},
          {"ignore_merges", false},
          {"vocab", std::move(vocabulary)},
          {"merges", merges(model)}};
}

void read_unigram(const nlohmann::json& source, ModelProto& model) {
  using Entries = std::vector<std::pair<std::string, float>>;
  for (const auto& [text, score] : source.at("vocab").get<Entries>()) {
    Piece* piece = model.add_pieces();
    piece->set_piece(text);
    piece->set_score(score);
  }
  const auto unknown = source.at("unk_id").get<size_t>();
  if (unknown < source.at("vocab").size()) {
    model.mutable_pieces(static_cast<int>(unknown))->set_type(Piece::UNKNOWN);
  }
}

void read_bpe(const nlohmann::json& source, const std::string& file, ModelProto& model) {
  model.mutable_trainer_spec()->set_model_type(TrainerSpec::BPE);
  std::unordered_map<std::string, Piece*> pieces;
  for (const std::string& token : tokens_by_id(source.at("vocab"), file)) {
    Piece* piece = pieces[token] = model.add_pieces();
    piece->set_piece(token);
    if (token == source.at("unk_token")) piece->set_type(Piece::UNKNOWN);
  }
  int64_t rank = 0;
  for (std::string merge : merge_lines(source.at("merges"), file)) {
    merge.erase(std::min(merge.find(' '), merge.size()), 1);
    const auto merged = pieces.find(merge);
    if (merged == pieces.end() || merged->second->has_score()) continue;
    merged->second->set_score(static_cast<float>(--rank));
  }
}

void read_normalizer(const nlohmann::json& source, NormalizerSpec* spec) {
  spec->set_add_dummy_prefix(false);
  spec->set_remove_extra_whitespaces(false);
  for (const auto& step : source.at("normalizers")) {
    if (step.at("type") == "Precompiled") {
      spec->set_precompiled_charsmap(
          from_base64(step.at("precompiled_charsmap").get<std::string>()));
    } else if (step.at("type") == "Prepend") {
      spec->set_add_dummy_prefix(true);
    } else if (step.at("pattern").contains("Regex")) {
      spec->set_remove_extra_whitespaces(true);
    }
  }
}

// The kinds of the pieces that are not text, and which of them enclose a document.
void read_special(const nlohmann::json& json, ModelProto& model) {
  TrainerSpec* trainer = model.mutable_trainer_spec();
  trainer->set_byte_fallback(json.at("model").at("byte_fallback").get<bool>());
  std::unordered_set<std::string> control;
  for (const auto& token : json.at("added_tokens")) {
    control.insert(token.at("content").get<std::string>());
  }
  for (Piece& piece : *model.mutable_pieces()) {
    if (piece.type() == Piece::UNKNOWN) {
      trainer->set_unk_piece(piece.piece());
    } else if (control.contains(piece.piece())) {
      piece.set_type(Piece::CONTROL);
    } else if (trainer->byte_fallback() && is_byte(piece.piece())) {
      piece.set_type(Piece::BYTE);
    }
  }
  bool before = true;
  for (const auto& part : json.at("post_processor").at("single")) {
    if (part.contains("Sequence")) {
      before = false;
    } else {
      const auto token = part.at("SpecialToken").at("id").get<std::string>();
      before ? trainer->set_bos_piece(token) : trainer->set_eos_piece(token);
    }
  }
}

// The rules: a size, a trie of 32-bit units (Yata's darts-clone), and the texts that its values
// point to. At most 32 rules may begin the same text.
class CharsmapTrie {
 public:
  CharsmapTrie(std::string_view bytes, size_t texts)
      : units_(bytes.size() / 4), longest_(units_.size(), kUnknown), texts_(texts) {
    std::memcpy(units_.data(), bytes.data(), units_.size() * 4);
  }

  bool is_sound() { return !units_.empty() && longest(0, 0) <= kMostRules; }

 private:
  static constexpr int kMostRules = 32, kUnknown = -1, kUnsound = 1000, kDeepest = 1000;

  // The most rules on a way from unit `at` on, which has `depth` units above it.
  int longest(uint32_t at, int depth) {
    if (longest_[at] != kUnknown) return longest_[at];
    longest_[at] = kUnsound;  // until it is known: of a circle
    const uint32_t unit = units_[at], base = at ^ (unit >> 10) << ((unit & 0x200) >> 6);
    const bool ends_rule = (unit >> 8 & 1) != 0;
    if (depth > kDeepest || (base | 0xff) >= units_.size()) return kUnsound;
    if (ends_rule && (units_[base] & 0x7fffffff) >= texts_) return kUnsound;
    int most = 0;
    for (uint32_t label = 0; label < 256; ++label) {
      const uint32_t next = base ^ label;
      if ((units_[next] & 0x800000ff) == label) most = std::max(most, longest(next, depth + 1));
    }
    return longest_[at] = std::min(most + ends_rule, kUnsound);
  }

  std::vector<uint32_t> units_;
  std::vector<int> longest_;  // by unit
  size_t texts_;              // bytes
};

bool is_sound_charsmap(std::string_view map) {
  if (map.empty()) return true;
  uint32_t size = 0;
  if (map.size() < sizeof size) return false;
  std::memcpy(&size, map.data(), sizeof size);
  map.remove_prefix(sizeof size);
  if (size > map.size() || size % 4 != 0) return false;
  const std::string_view texts = map.substr(size);
  return (texts.empty() || texts.back() == '\0') &&
         CharsmapTrie(map.substr(0, size), texts.size()).is_sound();
}

// At most 64 user-defined pieces may begin the same text.
bool has_short_chains(const ModelProto& model) {
  std::vector<std::string_view> pieces, chain;
  for (const Piece& piece : model.pieces()) {
    if (piece.type() == Piece::USER_DEFINED) pieces.push_back(piece.piece());
  }
  std::ranges::sort(pieces);
  for (const std::string_view piece : pieces) {
    while (!chain.empty() && !piece.starts_with(chain.back())) chain.pop_back();
    chain.push_back(piece);
    if (chain.size() > 64) return false;
  }
  return true;
}

}  // namespace

std::optional<Json> to_tokenizer_json(const std::string& serialized, const std::string& prefix,
                                      const std::string& suffix) {
  ModelProto model;
  check(model.ParseFromString(serialized), "sentencepiece: the model cannot be read.");
  if (!has_equal(model)) return std::nullopt;
  const bool is_bpe = model.trainer_spec().model_type() == TrainerSpec::BPE;
  return Json{{"version", "1.0"},
              {"truncation", nullptr},
              {"padding", nullptr},
              {"added_tokens", added_tokens(model)},
              {"normalizer", normalizer(model.normalizer_spec())},
              {"pre_tokenizer", pre_tokenizer(model)},
              {"post_processor", post_processor(model, prefix, suffix)},
              {"decoder", decoder(model)},
              {"model", is_bpe ? bpe(model) : unigram(model)}};
}

std::string from_tokenizer_json(const nlohmann::json& json, const std::string& file) try {
  ModelProto model;
  const auto& source = json.at("model");
  source.at("type") == "BPE" ? read_bpe(source, file, model) : read_unigram(source, model);
  read_special(json, model);
  read_normalizer(json.at("normalizer"), model.mutable_normalizer_spec());
  return model.SerializeAsString();
} catch (const nlohmann::json::exception& error) {
  fail(file,
       " is not a tokenizer.json as quench writes it for sentencepiece models: ", error.what(),
       ".");
}

bool is_sound(const std::string& serialized) {
  ModelProto model;
  return serialized.size() <= INT32_MAX && model.ParseFromString(serialized) &&
         is_sound_charsmap(model.normalizer_spec().precompiled_charsmap()) &&
         is_sound_charsmap(model.denormalizer_spec().precompiled_charsmap()) &&
         has_short_chains(model) && std::ranges::all_of(model.pieces(), [](const Piece& piece) {
           return find_invalid_utf8(piece.piece()) == std::string::npos;
         });
}

void round_scores(std::string& serialized) {
  ModelProto model;
  check(model.ParseFromString(serialized), "sentencepiece: the model cannot be read.");
  for (Piece& piece : *model.mutable_pieces()) {
    piece.set_score(std::round(piece.score() * 256) / 256);
  }
  serialized = model.SerializeAsString();
}

}  // namespace quench
