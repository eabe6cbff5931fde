#include "data/tokenizer_json.h"

#include <functional>

#include "data/byte_bpe.h"
#include "data/sentencepiece.h"
#include "data/wordpiece.h"
#include "tests/data/hf_folder.h"
#include "tests/data/sample_text.h"
#include "tests/data/scratch.h"

namespace quench {
namespace {

using Ids = std::vector<int32_t>;
using Edit = std::function<void(Json&)>;

Json added(int id, const char* token) {
  return {{"id", id},        {"content", token},    {"single_word", false}, {"lstrip", false},
          {"rstrip", false}, {"normalized", false}, {"special", true}};
}

Json special(const char* token) { return {{"SpecialToken", {{"id", token}, {"type_id", 0}}}}; }

Json enclosed(std::vector<Json> before, std::vector<Json> after) {
  before.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
  before.insert(before.end(), after.begin(), after.end());
  return {{"type", "TemplateProcessing"}, {"single", before}};
}

// As transformers 5 writes BERT's.
Json bert(bool lowercase, const Json& vocabulary) {
  return {{"added_tokens", {added(0, "[PAD]"), added(4, "[MASK]")}},
          {"normalizer",
           {{"type", "BertNormalizer"},
            {"clean_text", true},
            {"handle_chinese_chars", true},
            {"strip_accents", nullptr},
            {"lowercase", lowercase}}},
          {"pre_tokenizer", {{"type", "BertPreTokenizer"}}},
          {"post_processor", enclosed({special("[CLS]")}, {special("[SEP]")})},
          {"model",
           {{"type", "WordPiece"},
            {"unk_token", "[UNK]"},
            {"continuing_subword_prefix", "##"},
            {"max_input_chars_per_word", 100},
            {"vocab", vocabulary}}}};
}

Json small_bert() {
  return bert(true, {{"[PAD]", 0},
                     {"[UNK]", 1},
                     {"[CLS]", 2},
                     {"[SEP]", 3},
                     {"[MASK]", 4},
                     {"un", 5},
                     {"##aff", 6},
                     {"##able", 7}});
}

// As transformers 5 writes those of GPT-2 and OPT.
Json byte_bpe(const Json& vocabulary, const Json& merges, const Json& post_processor) {
  return {
      {"added_tokens", Json::array()},
      {"normalizer", nullptr},
      {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}},
      {"post_processor", post_processor},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"continuing_subword_prefix", ""},
        {"end_of_word_suffix", ""},
        {"byte_fallback", false},
        {"ignore_merges", false},
        {"vocab", vocabulary},
        {"merges", merges}}}};
}

std::string golden_file(const std::string& name) {
  std::ifstream in(golden_tokenizers() / name, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

Json golden_bert(const std::string& name) {
  Json vocabulary;
  std::istringstream lines(golden_file(name + "/vocab.txt"));
  int id = 0;
  for (std::string line; std::getline(lines, line);) vocabulary[line] = id++;
  return bert(name == "bert-uncased", vocabulary);
}

Json golden_opt(bool pairs) {
  Json merges;
  std::istringstream lines(golden_file("opt/merges.txt"));
  for (std::string line; std::getline(lines, line);) {
    const size_t space = line.find(' ');
    if (line.starts_with("#version")) continue;
    merges.push_back(pairs ? Json{line.substr(0, space), line.substr(space + 1)} : Json(line));
  }
  return byte_bpe(parse_json(golden_file("opt/vocab.json")), merges,
                  enclosed({special("</s>")}, {}));
}

std::unique_ptr<Tokenizer> load(const Json& json, const std::string& config = "{}") {
  const Scratch scratch;
  scratch.write("tokenizer.json", dump(json));
  scratch.write("tokenizer_config.json", config);
  return load_tokenizer(scratch / "");
}

TEST(TokenizerJson, WordPieceIsThatOfItsVocabularyFile) {
  for (const std::string name : {"bert-uncased", "bert-cased"}) {
    const auto tokenizer = load(golden_bert(name));
    expect_golden_ids(*tokenizer, name);
    EXPECT_EQ(tokenizer->hash(), load_wordpiece(golden_tokenizers() / name / "vocab.txt")->hash());
    EXPECT_EQ(tokenizer->special().mask, 4);
    EXPECT_EQ(tokenizer->document(""), (Ids{2, 3}));
  }
}

TEST(TokenizerJson, ByteBpeIsThatOfItsVocabularyFiles) {
  for (const bool pairs : {false, true}) {
    const auto tokenizer = load(golden_opt(pairs));
    expect_golden_ids(*tokenizer, "opt");
    EXPECT_EQ(tokenizer->hash(), load_byte_bpe(golden_tokenizers() / "opt" / "vocab.json")->hash());
    EXPECT_EQ(tokenizer->document(""), (Ids{2}));
  }
}

TEST(TokenizerJson, GoesBeforeTheConfigBesideIt) {
  EXPECT_EQ(load(golden_bert("bert-uncased"), R"({"do_lower_case": false})")->hash(),
            load(golden_bert("bert-uncased"))->hash());
  EXPECT_EQ(
      load(golden_opt(true), R"({"add_bos_token": false, "bos_token": "<s>"})")->special().bos, 2);
}

TEST(TokenizerJson, TheConfigBesideItNamesSpecialTokens) {
  const auto tokenizer = load(golden_opt(true), R"({"eos_token": "<s>", "pad_token": "<unk>"})");
  EXPECT_EQ(tokenizer->special().eos, 0);
  EXPECT_EQ(tokenizer->special().pad, 3);
}

TEST(TokenizerJson, DocumentsBeginAsThePostProcessorSays) {
  Json json = golden_opt(true);
  for (const Json& none : {Json(), Json{{"type", "ByteLevel"}}, enclosed({}, {})}) {
    json["post_processor"] = none;
    EXPECT_EQ(load(json)->special().bos, -1) << none;
  }
  json["post_processor"] = enclosed({}, {special("<s>")});
  EXPECT_EQ(load(json)->document(""), (Ids{0}));

  Json bert = small_bert();
  bert["post_processor"] = {{"type", "BertProcessing"}, {"sep", {"un", 5}}, {"cls", {"[PAD]", 0}}};
  EXPECT_EQ(load(bert)->document(""), (Ids{0, 5}));
}

TEST(TokenizerJson, AddsThePrefixSpaceThatItAsksFor) {
  Json json = golden_opt(true);
  const auto plain = load(json);
  json["pre_tokenizer"]["add_prefix_space"] = true;
  const auto prefixed = load(json);
  EXPECT_EQ(prefixed->encode("the"), plain->encode(" the"));
  EXPECT_EQ(prefixed->encode(" the"), plain->encode(" the"));
  EXPECT_EQ(prefixed->encode("</s>the"), plain->encode("</s> the"));
  EXPECT_EQ(prefixed->encode(""), Ids{});
  EXPECT_NE(prefixed->hash(), plain->hash());
}

TEST(TokenizerJson, AddedTokensBeyondTheModelAreFoundInTextAlone) {
  Json json = small_bert();
  json["added_tokens"].push_back(added(8, "aff"));
  const auto tokenizer = load(json);
  EXPECT_EQ(tokenizer->vocab_size(), 9);
  EXPECT_EQ(tokenizer->encode("unaff AFF"), (Ids{5, 8, 1}));
}

TEST(TokenizerJson, AnEmptyAddedTokenIsRefused) {
  Json json = small_bert();
  json["added_tokens"].push_back(added(8, ""));
  EXPECT_NE(error_of([&] { load(json); }).find("an added token is empty"), std::string::npos);
}

TEST(TokenizerJson, GoesBeforeAVocabularyWithAddedTokens) {
  const Scratch scratch;
  scratch.write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##aff\n##able\n");
  scratch.write("added_tokens.json", R"({"[MASK]": 4})");
  EXPECT_EQ(load_tokenizer(scratch / "")->vocab_size(), 8);
  scratch.write("added_tokens.json", R"({"aff": 8})");
  EXPECT_EQ(error_of([&] { load_tokenizer(scratch / ""); }),
            concat(scratch / "added_tokens.json",
                   " adds \"aff\"; quench reads such tokens from a tokenizer.json, and there is "
                   "none."));
  Json json = small_bert();
  json["added_tokens"].push_back(added(8, "aff"));
  scratch.write("tokenizer.json", dump(json));
  scratch.write("vocab.txt", "[PAD]\n");  // special tokens may be among those added
  EXPECT_EQ(load_tokenizer(scratch / "")->encode("unaff"), (Ids{5, 8}));
}

TEST(TokenizerJson, KeepsTheLengthOfAWord) {
  Json json = small_bert();
  json["model"]["max_input_chars_per_word"] = 5;
  EXPECT_EQ(load(json)->encode("unaff unaffable"), (Ids{5, 6, 1}));
}

TEST(TokenizerJson, SavedFilesMakeTheSameTokenizer) {
  Json bert = small_bert();
  bert["model"]["max_input_chars_per_word"] = 5;
  bert["added_tokens"].push_back(added(8, "[NEW]"));
  for (const Json& json : {bert, golden_opt(true)}) {
    const Scratch scratch;
    const auto tokenizer = load(json);
    tokenizer->save(scratch / "");
    EXPECT_EQ(load_tokenizer(scratch / "")->hash(), tokenizer->hash());
    EXPECT_EQ(parse_json(scratch.read("tokenizer.json")), json);
  }
}

TEST(TokenizerJson, ErrorsNameTheFileAndWhatQuenchLacks) {
  const std::pair<Edit, const char*> wordpiece[] = {
      {[](Json& j) { j.erase("model"); }, "has no model"},
      {[](Json& j) { j["model"]["type"] = "WordLevel"; }, "type \"WordLevel\""},
      {[](Json& j) { j["model"].erase("vocab"); }, "model.vocab is not a JSON object"},
      {[](Json& j) { j["model"]["vocab"]["un"] = 9; }, "\"un\" has the id 9"},
      {[](Json& j) { j["model"]["continuing_subword_prefix"] = "@@"; }, "\"@@\""},
      {[](Json& j) {
         j["normalizer"] = {{"type", "NFC"}};
       },
       "normalizer.type is \"NFC\""},
      {[](Json& j) { j["normalizer"]["strip_accents"] = false; }, "normalizer.strip_accents"},
      {[](Json& j) { j["normalizer"]["clean_text"] = false; }, "normalizer.clean_text is false"},
      {[](Json& j) { j["normalizer"]["handle_chinese_chars"] = false; }, "handle_chinese_chars"},
      {[](Json& j) { j["pre_tokenizer"]["type"] = "Whitespace"; }, "\"Whitespace\""},
      {[](Json& j) {
         j["post_processor"] = {{"type", "Sequence"}};
       },
       "post_processor.type"},
      {[](Json& j) { j["post_processor"] = enclosed({special("[CLS]")}, {}); }, "one token"},
      {[](Json& j) { j["added_tokens"][1]["lstrip"] = true; }, "\"[MASK]\" is lstrip"},
      {[](Json& j) { j["added_tokens"][1]["normalized"] = true; }, "\"[MASK]\" is normalized"},
      {[](Json& j) { j["added_tokens"][1]["id"] = 3; }, "\"[MASK]\" has the id 3"},
      {[](Json& j) { j["added_tokens"][1].erase("content"); }, "is not a tokenizer.json"},
  };
  const std::pair<Edit, const char*> byte_bpe[] = {
      {[](Json& j) {
         j["normalizer"] = {{"type", "NFC"}};
       },
       "the normalizer is {\"type\":\"NFC\"}"},
      {[](Json& j) { j["pre_tokenizer"]["use_regex"] = false; }, "pre_tokenizer.use_regex"},
      {[](Json& j) { j["model"]["ignore_merges"] = true; }, "model.ignore_merges is true"},
      {[](Json& j) { j["model"]["dropout"] = 0.1; }, "model.dropout is 0.1"},
      {[](Json& j) { j["model"]["merges"].push_back("a"); }, "merge 441 (\"a\")"},
      {[](Json& j) { j["model"]["merges"].push_back(7); }, "7 is no merge"},
      {[](Json& j) {
         j["post_processor"] = enclosed({special("<s>"), special("</s>")}, {});
       },
       "several tokens"},
      {[](Json& j) { j["post_processor"] = enclosed({special("<s>")}, {special("</s>")}); },
       "adds <s> and </s>"},
  };
  const auto expect = [](Json json, const auto& edits) {
    for (const auto& [edit, message] : edits) {
      Json edited = json;
      edit(edited);
      const std::string error = error_of([&] { load(edited); });
      EXPECT_NE(error.find("tokenizer.json"), error.npos) << message;
      EXPECT_NE(error.find(message), error.npos) << message << " in: " << error;
    }
  };
  expect(small_bert(), wordpiece);
  expect(golden_opt(true), byte_bpe);
}

class SentencePieceJson : public testing::TestWithParam<const char*> {
 protected:
  SentencePieceJson() {
    const std::vector<std::string> lines = sample_lines(500);
    tokenizer_ = train_sentencepiece(
        [&, i = size_t{0}](std::string& line) mutable {
          if (i < lines.size()) line = lines[i];
          return i++ < lines.size();
        },
        {.model_type = GetParam(), .vocab_size = 200});
    tokenizer_->save(scratch_ / "");
    json_ = parse_json(scratch_.read("tokenizer.json"));
  }

  Scratch scratch_;
  std::unique_ptr<Tokenizer> tokenizer_;
  Json json_;
};
INSTANTIATE_TEST_SUITE_P(Types, SentencePieceJson, testing::Values("unigram", "bpe"));

TEST_P(SentencePieceJson, HoldsTheWholeModel) {
  const bool bpe = GetParam() == std::string("bpe");
  EXPECT_EQ(json_["model"]["type"], bpe ? "BPE" : "Unigram");
  EXPECT_EQ(json_["model"]["vocab"].size(), 200u);
  if (bpe) {
    EXPECT_EQ(json_["model"]["vocab"]["[MASK]"], 4);
    EXPECT_EQ(json_["model"]["unk_token"], "[UNK]");
    EXPECT_EQ(json_["model"]["fuse_unk"], true);
    for (const Json& merge : json_["model"]["merges"]) {
      std::string merged = merge;
      merged.erase(merged.find(' '), 1);
      EXPECT_TRUE(json_["model"]["vocab"].contains(merged)) << merge;
    }
  } else {
    EXPECT_EQ(json_["model"]["vocab"][4][0], "[MASK]");
    EXPECT_EQ(json_["model"]["unk_id"], 1);
  }
  std::vector<std::string> steps;
  for (const Json& step : json_["normalizer"]["normalizers"]) steps.push_back(step["type"]);
  EXPECT_EQ(steps,
            (std::vector<std::string>{"Precompiled", "Replace", "Replace", "Prepend", "Replace"}));
  EXPECT_EQ(json_["pre_tokenizer"]["type"], "Metaspace");
  EXPECT_EQ(json_["decoder"]["type"], "Metaspace");
  EXPECT_EQ(json_["added_tokens"].size(), 5u);
  EXPECT_EQ(dump(json_["post_processor"]["single"]),
            R"([{"SpecialToken":{"id":"[CLS]","type_id":0}},{"Sequence":{"id":"A","type_id":0}},)"
            R"({"SpecialToken":{"id":"[SEP]","type_id":0}}])");
  EXPECT_EQ(json_["post_processor"]["special_tokens"]["[SEP]"]["ids"], Json({3}));
  const Json config = parse_json(scratch_.read("tokenizer_config.json"));
  EXPECT_EQ(config["tokenizer_class"], "PreTrainedTokenizerFast");
  EXPECT_EQ(config["mask_token"], "[MASK]");
  EXPECT_EQ(config["eos_token"], "[SEP]");
}

TEST_P(SentencePieceJson, AloneMakesTheSameTokenizer) {
  std::filesystem::remove(scratch_ / "tokenizer.model");
  for (const bool pairs : {false, true}) {  // transformers writes merges anew as pairs
    if (pairs && json_["model"].contains("merges")) {
      for (Json& merge : json_["model"]["merges"]) {
        const std::string text = merge;
        merge = {text.substr(0, text.find(' ')), text.substr(text.find(' ') + 1)};
      }
      scratch_.write("tokenizer.json", dump(json_));
    }
    const auto loaded = load_tokenizer(scratch_ / "");
    EXPECT_EQ(loaded->special().structural(), tokenizer_->special().structural());
    EXPECT_EQ(loaded->special().eos, 3);
    for (const std::string& line : sample_lines(50, 2)) {
      EXPECT_EQ(loaded->document(line), tokenizer_->document(line));
    }
    const char* const odd =
        " \xEF\xBD\x8B\xEF\xBD\x81\t\xE2\x82\xAC\xE2\x82\xAC  lo ";  // fullwidth ka
    EXPECT_EQ(loaded->encode(odd), tokenizer_->encode(odd));
    EXPECT_EQ(loaded->encode(odd), tokenizer_->encode("ka \xE2\x82\xAC lo"));
  }
}

TEST_P(SentencePieceJson, TheModelBesideItGoesFirst) {
  scratch_.write("tokenizer.json", "{}");
  EXPECT_EQ(load_tokenizer(scratch_ / "")->hash(), tokenizer_->hash());
}

TEST_P(SentencePieceJson, ErrorNamesThePartThatIsNotOurs) {
  std::filesystem::remove(scratch_ / "tokenizer.model");
  const std::pair<Edit, const char*> edits[] = {
      {[](Json& j) { j["normalizer"]["normalizers"][1]["content"] = "x"; }, "the normalizer"},
      {[](Json& j) { j["pre_tokenizer"]["split"] = false; }, "the pre_tokenizer"},
      {[](Json& j) { j["added_tokens"].push_back(added(200, "new")); }, "the added_tokens"},
      {[](Json& j) { j["post_processor"]["single"].erase(0); }, "the post_processor"},
      {[](Json& j) { j["model"]["dropout"] = 0.1; }, "the model"},
      {[](Json& j) { j["normalizer"] = nullptr; }, "is not a tokenizer.json as quench writes"},
  };
  for (const auto& [edit, message] : edits) {
    Json edited = json_;
    edit(edited);
    scratch_.write("tokenizer.json", dump(edited));
    const std::string error = error_of([&] { load_tokenizer(scratch_ / ""); });
    EXPECT_NE(error.find("tokenizer.json"), error.npos) << error;
    EXPECT_NE(error.find(message), error.npos) << message << " in: " << error;
  }
}

TEST(SentencePieceJsonScores, SumExactly) {
  const Scratch scratch;
  std::vector<std::string> lines = sample_lines(300);
  train_sentencepiece(
      [&](std::string& line) {
        if (lines.empty()) return false;
        line = lines.back();
        lines.pop_back();
        return true;
      },
      {.vocab_size = 150})
      ->save(scratch / "");
  const Json json = parse_json(scratch.read("tokenizer.json"));
  for (const Json& piece : json["model"]["vocab"]) {
    const double steps = piece[1].get<double>() * 256;
    EXPECT_EQ(steps, std::round(steps)) << piece;
  }
}

}  // namespace
}  // namespace quench
