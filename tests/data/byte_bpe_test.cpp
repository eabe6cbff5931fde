#include "data/byte_bpe.h"

#include "base/error.h"
#include "tests/data/hf_folder.h"

namespace quench {
namespace {

using Ids = std::vector<int32_t>;

std::unique_ptr<Tokenizer> golden(const std::string& name) {
  return load_byte_bpe(golden_tokenizers() / name / "vocab.json");
}

std::vector<std::string> tokens_of(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::string> tokens;
  for (int32_t id : tokenizer.encode(text)) tokens.push_back(tokenizer.decode(std::span(&id, 1)));
  return tokens;
}

std::string error_of(const std::map<std::string, std::string>& files) {
  try {
    HfFolder folder(files);
    load_byte_bpe(folder / "vocab.json");
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(ByteBpe, GivesHuggingFaceIds) {
  for (const std::string name : {"gpt2", "opt"}) expect_golden_ids(*golden(name), name);
}

TEST(ByteBpe, DecodeRestoresEveryByte) {
  std::string bytes = " It's  caf\u00E9\n\n\u4E16 ";  // well-formed, then every byte, ill-formed
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  const auto tokenizer = golden("gpt2");
  EXPECT_EQ(tokenizer->decode(tokenizer->encode(bytes)), bytes);
  EXPECT_THROW(tokenizer->decode(Ids{700}), Error);
}

TEST(ByteBpe, WhiteSpaceLeavesItsLastCharacterToTheNextWord) {
  using Tokens = std::vector<std::string>;
  const auto tokenizer = golden("gpt2");
  EXPECT_EQ(tokens_of(*tokenizer, "  the"), (Tokens{" ", " the"}));
  EXPECT_EQ(tokens_of(*tokenizer, " the \n"), (Tokens{" the", " ", "\n"}));
}

TEST(ByteBpe, ALongWordIsMergedInReasonableTime) {
  EXPECT_LT(golden("gpt2")->encode(std::string(1'000'000, 'e')).size(), 1'000'001u);
}

TEST(ByteBpe, OptBeginsDocumentsAndGpt2EndsThem) {
  const auto opt = golden("opt"), gpt2 = golden("gpt2");
  EXPECT_EQ(opt->special().bos, 2);
  EXPECT_EQ(opt->special().pad, 1);
  EXPECT_EQ(opt->document("</s><pad>"), (Ids{2, 2, 1}));
  EXPECT_EQ(gpt2->special().bos, -1);
  EXPECT_EQ(gpt2->document("<|endoftext|>"), (Ids{0, 0}));
}

TEST(ByteBpe, SavedFilesMakeTheSameTokenizer) {
  const auto opt = golden("opt");
  HfFolder folder({});
  opt->save(folder / "");
  const auto again = load_byte_bpe(folder / "vocab.json");
  EXPECT_EQ(again->hash(), opt->hash());
  EXPECT_EQ(again->document("the </s>"), opt->document("the </s>"));
  EXPECT_NE(golden("gpt2")->hash(), opt->hash());
}

TEST(ByteBpe, TheConfigNamesSpecialTokens) {
  HfFolder folder({});
  golden("opt")->save(folder / "");
  std::ofstream(folder / "tokenizer_config.json")
      << R"({"bos_token": {"content": "<s>"}, "pad_token": null, "add_bos_token": true})";
  const auto tokenizer = load_byte_bpe(folder / "vocab.json");
  EXPECT_EQ(tokenizer->document("<s><pad>").size(), 2 + tokenizer->encode("<pad>").size());
  EXPECT_GT(tokenizer->encode("<pad>").size(), 1u);
  EXPECT_EQ(tokenizer->special().bos, 0);
}

TEST(ByteBpe, AddsThePrefixSpaceThatTheConfigAsksFor) {
  HfFolder folder({});
  golden("gpt2")->save(folder / "");
  std::ofstream(folder / "tokenizer_config.json") << R"({"add_prefix_space": true})";
  EXPECT_EQ(load_byte_bpe(folder / "vocab.json")->encode("the"), golden("gpt2")->encode(" the"));
}

TEST(ByteBpe, ErrorsNameTheFileAndTheCause) {
  const auto has = [](const std::string& text, const char* part) {
    return text.find(part) != text.npos;
  };
  EXPECT_PRED2(has, error_of({{"vocab.json", "[]"}, {"merges.txt", ""}}),
               "vocab.json is not a JSON object");
  EXPECT_PRED2(has, error_of({{"vocab.json", R"({"a": 1})"}, {"merges.txt", ""}}),
               "\"a\" has the id 1");
  EXPECT_PRED2(has, error_of({{"vocab.json", R"({"a": 0})"}, {"merges.txt", ""}}),
               "lacks a token for the byte 0");
  EXPECT_PRED2(has,
               error_of({{"vocab.json", R"({"a": 0})"}, {"merges.txt", "#version: 0.2\na b\n"}}),
               "merges.txt: merge 1 (\"a b\") does not");
  EXPECT_PRED2(has, error_of({{"vocab.json", "{}"}}), "merges.txt");
}

}  // namespace
}  // namespace quench
