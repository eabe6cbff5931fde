#include "data/wordpiece.h"

#include "base/error.h"
#include "tests/data/hf_folder.h"

namespace quench {
namespace {

using namespace std::string_literals;
using Ids = std::vector<int32_t>;

const char* const kTokens =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##aff\n##able\n##a\ncafe\n,\n\xE4\xB8\x96\nx\n##x\n";

std::unique_ptr<Tokenizer> load(const std::string& config = "{}",
                                const std::string& tokens = kTokens) {
  HfFolder folder({{"vocab.txt", tokens}, {"tokenizer_config.json", config}});
  return load_wordpiece(folder / "vocab.txt");
}

std::string error_of(const std::string& config, const std::string& tokens = kTokens) {
  try {
    load(config, tokens);
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(WordPiece, BlanksBehindTokensAndBlankLastLinesAreNone) {
  std::string untidy;
  for (const char c : std::string(kTokens)) untidy += c == '\n' ? " \t\r\n" : std::string(1, c);
  const auto tokenizer = load("{}", untidy + "\n  \n\n");
  EXPECT_EQ(tokenizer->vocab_size(), load()->vocab_size());
  EXPECT_EQ(tokenizer->encode("unaffable una"), (Ids{5, 6, 7, 5, 8}));
}

TEST(WordPiece, TakesTheLongestPieces) {
  EXPECT_EQ(load()->encode("unaffable una"), (Ids{5, 6, 7, 5, 8}));
}

TEST(WordPiece, AWordWithAnUnknownPartIsUnknown) {
  EXPECT_EQ(load()->encode("unaffq un"), (Ids{1, 5}));
}

TEST(WordPiece, UncasedStripsAccentsAndCapitals) {
  EXPECT_EQ(load()->encode("CAF\u00C9 cafe\u0301"), (Ids{9, 9}));
}

// ICU would sort them in time that is quadratic in their number.
TEST(WordPiece, UncasedStripsAnyNumberOfAccents) {
  std::string marks;
  for (int i = 0; i < 200'000; ++i) marks += i % 2 ? "\u0316" : "\u0301";
  EXPECT_EQ(load()->encode("caf\u00C9" + marks + "x cafe" + marks),
            load()->encode("caf\u00C9x cafe"));
}

TEST(WordPiece, CasedKeepsAccentsAndCapitals) {
  EXPECT_EQ(load(R"({"do_lower_case": false})")->encode("caf\u00E9 Un cafe"), (Ids{1, 1, 9}));
}

TEST(WordPiece, AVocabularyWithCapitalsIsCased) {
  EXPECT_EQ(load("{}", std::string(kTokens) + "Un\n")->encode("Un un"), (Ids{14, 5}));
}

TEST(WordPiece, PunctuationAndIdeographsAreWords) {
  EXPECT_EQ(load()->encode("un,un\u4E16un"), (Ids{5, 10, 5, 11, 5}));
}

TEST(WordPiece, ControlsVanishAndWhiteSpaceSeparates) {
  EXPECT_EQ(load()->encode("u\0n\u200B\u3000un\tun\xFF"s), (Ids{5, 5, 5}));
}

TEST(WordPiece, OneHundredCharactersAreAWordAndMoreAreUnknown) {
  EXPECT_EQ(load()->encode(std::string(100, 'x')).size(), 100u);
  EXPECT_EQ(load()->encode(std::string(101, 'x')), (Ids{1}));
}

TEST(WordPiece, SpecialTokensInTextAreThemselves) {
  EXPECT_EQ(load()->encode("un[MASK]un [SEP]"), (Ids{5, 4, 5, 3}));
  EXPECT_EQ(load()->encode("[mask]"), (Ids{1, 1, 1}));
}

TEST(WordPiece, DocumentsStandBetweenClsAndSep) {
  EXPECT_EQ(load()->document("un"), (Ids{2, 5, 3}));
}

TEST(WordPiece, DecodeJoinsPieces) {
  EXPECT_EQ(load()->decode(Ids{2, 5, 6, 7, 10, 9}), "[CLS] unaffable , cafe");
  EXPECT_THROW(load()->decode(Ids{14}), Error);
}

TEST(WordPiece, ErrorsNameTheFileAndTheCause) {
  EXPECT_NE(error_of("{}", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n")
                .find("vocab.txt lacks the mask_token \"[MASK]\""),
            std::string::npos);
  EXPECT_NE(error_of(R"({"do_lower_case": 1})").find("do_lower_case is 1"), std::string::npos);
  EXPECT_NE(error_of(R"({"strip_accents": false})").find("strip_accents"), std::string::npos);
  EXPECT_NE(error_of("[]").find("tokenizer_config.json is not a JSON object"), std::string::npos);
}

TEST(WordPiece, SavedFilesMakeTheSameTokenizer) {
  const auto cased = load(R"({"do_lower_case": false, "model_max_length": 512})");
  HfFolder folder({});
  cased->save(folder / "");
  const auto again = load_wordpiece(folder / "vocab.txt");
  EXPECT_EQ(again->hash(), cased->hash());
  EXPECT_EQ(again->encode("Un un"), cased->encode("Un un"));
  EXPECT_NE(load()->hash(), cased->hash());
}

TEST(WordPiece, GivesHuggingFaceIds) {
  for (const std::string name : {"bert-uncased", "bert-cased"}) {
    expect_golden_ids(*load_wordpiece(golden_tokenizers() / name / "vocab.txt"), name);
  }
}

}  // namespace
}  // namespace quench
