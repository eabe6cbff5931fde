#include "data/sentencepiece.h"

#include <gtest/gtest.h>

#include <regex>

#include "tests/data/sample_text.h"
#include "tests/data/scratch.h"

namespace quench {
namespace {

LineSource source(std::vector<std::string> lines) {
  return [lines = std::move(lines), i = size_t{0}](std::string& line) mutable {
    if (i == lines.size()) return false;
    line = lines[i++];
    return true;
  };
}

std::unique_ptr<Tokenizer> trained(const SentencePieceOptions& options) {
  return train_sentencepiece(source(sample_lines(500)), options);
}

class SentencePiece : public testing::TestWithParam<const char*> {
 protected:
  SentencePieceOptions options() const { return {.model_type = GetParam(), .vocab_size = 200}; }
};
INSTANTIATE_TEST_SUITE_P(Types, SentencePiece, testing::Values("unigram", "bpe"));

TEST_P(SentencePiece, DecodesWhatItEncodes) {
  const auto tokenizer = trained(options());
  EXPECT_EQ(tokenizer->vocab_size(), 200);
  for (const std::string& line : sample_lines(50, 2)) {
    const std::vector<int32_t> ids = tokenizer->encode(line);
    EXPECT_LT(ids.size(), line.size() * 2 / 3);
    EXPECT_EQ(tokenizer->decode(ids), line);
  }
}

TEST_P(SentencePiece, TrainsTheSameModelAgain) {
  EXPECT_EQ(trained(options())->hash(), trained(options())->hash());
  SentencePieceOptions other = options();
  other.vocab_size = 199;
  EXPECT_NE(trained(options())->hash(), trained(other)->hash());
}

TEST_P(SentencePiece, ServesMaskedAndCausalModelsWithOneLayout) {
  const auto tokenizer = trained(options());
  const SpecialTokens& s = tokenizer->special();
  EXPECT_EQ((std::vector<int32_t>{s.pad, s.unk, s.cls, s.sep, s.mask, s.bos, s.eos}),
            (std::vector<int32_t>{0, 1, 2, 3, 4, 2, 3}));
  EXPECT_EQ(s.structural(), (std::vector<int32_t>{0, 2, 3, 4}));
  const std::vector<int32_t> document = tokenizer->document("kalomi");
  EXPECT_EQ(document.front(), 2);
  EXPECT_EQ(document.back(), 3);
  EXPECT_EQ(std::vector<int32_t>(document.begin() + 1, document.end() - 1),
            tokenizer->encode("kalomi"));
}

TEST_P(SentencePiece, TakesSpecialTokensInTextForText) {
  for (int32_t id : trained(options())->encode("ka [MASK] lo [SEP] \xe2\x82\xac")) {
    EXPECT_TRUE(id == 1 || id > 4) << id;
  }
}

TEST_P(SentencePiece, LoadsWhatItSaved) {
  const Scratch scratch;
  const auto tokenizer = trained(options());
  tokenizer->save(scratch / "");
  for (const std::string& path : {scratch / "", scratch / "tokenizer.model"}) {
    const auto loaded = load_tokenizer(path);
    EXPECT_EQ(loaded->hash(), tokenizer->hash());
    EXPECT_EQ(loaded->document("kalomi nerusta"), tokenizer->document("kalomi nerusta"));
    EXPECT_EQ(loaded->special().mask, 4);
  }
}

TEST_P(SentencePiece, ErrorNamesTheLargestVocabularyAndThatOneWorks) {
  SentencePieceOptions large = options();
  large.vocab_size = 50000;
  const std::string error = error_of([&] { trained(large); });
  std::smatch match;
  ASSERT_TRUE(std::regex_search(error, match, std::regex("50000; it supports at most (\\d+)")))
      << error;
  large.vocab_size = std::stoi(match[1]);
  EXPECT_EQ(trained(large)->vocab_size(), large.vocab_size);
}

TEST_P(SentencePiece, ErrorNamesTheSmallestVocabulary) {
  SentencePieceOptions small = options();
  small.vocab_size = 8;
  const std::string error = error_of([&] { trained(small); });
  EXPECT_NE(error.find("8 vs"), std::string::npos) << error;
}

TEST_P(SentencePiece, TrainsOnLongLines) {
  std::string line;
  for (const std::string& text : sample_lines(500)) line += text + " ";
  ASSERT_GT(line.size(), 10000u);
  EXPECT_EQ(train_sentencepiece(source({line}), options())->vocab_size(), 200);
}

TEST_P(SentencePiece, SaysNothing) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  trained(options());
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(SentencePieceTraining, RefusesBlankText) {
  EXPECT_THROW(train_sentencepiece(source({}), {}), Error);
  EXPECT_THROW(train_sentencepiece(source({"", " \t"}), {}), Error);
}

TEST(SentencePieceTraining, RefusesOptionsOutOfRange) {
  EXPECT_NE(error_of([] { trained({.model_type = "word"}); }).find("unigram or bpe"),
            std::string::npos);
  EXPECT_THROW(trained({.vocab_size = 5}), Error);
  EXPECT_THROW(trained({.character_coverage = 0.5}), Error);
  EXPECT_THROW(trained({.input_sentence_size = -1}), Error);
}

// A line with the trainer's own mark for the unknown is text as any other.
TEST(SentencePieceTraining, LeavesOutNoLine) {
  const std::vector<std::string> text = sample_lines(300);
  size_t next = 0;
  const LineSource marked = [&](std::string& line) {
    if (next == text.size()) return false;
    line = text[next++] + " \u2585";
    return true;
  };
  EXPECT_EQ(train_sentencepiece(marked, {.vocab_size = 200})->vocab_size(), 200);
}

// Ordinary text is encoded in one piece; a word without end in parts, in time that grows with it.
TEST(SentencePieceTraining, CutsWordsThatTheLibraryCannotEncode) {
  const auto tokenizer = trained({.vocab_size = 200});
  std::string ordinary;
  for (int i = 0; i < 4000; ++i) ordinary += "the words of a long line ";
  tokenizer->encode(ordinary);
  EXPECT_EQ(tokenizer->words_cut(), 0);
  std::string strange;
  for (int i = 0; i < 150'000; ++i) strange += "\u00e9\u4e2d";  // 5 bytes, unknown both
  EXPECT_GE(tokenizer->encode("a " + strange + " b").size(), 11u);
  EXPECT_EQ(tokenizer->words_cut(), 11);
}

// The trainer ends its process on these; and BPE on words of more than 65535 characters.
TEST(SentencePieceTraining, WhatTheLibraryCannotTakeIsAnError) {
  const auto train = [](const std::string& text, const char* type) {
    return error_of([&] {
      bool done = false;
      train_sentencepiece(
          [&](std::string& line) {
            line = text;
            return !std::exchange(done, true);
          },
          {.model_type = type, .vocab_size = 12});
    });
  };
  for (const char* text :
       {"\u00a0\u00a0", "\u3000", "\u200b\u200b", "\u2581", "\ufffd", "\x1a\x1a"})
    for (const char* type : {"unigram", "bpe"}) EXPECT_NE(train(text, type), "") << text << type;
  std::string dna = "hello world ";
  for (int i = 0; i < 20000; ++i) dna += "ACGT";
  EXPECT_EQ(train(dna, "bpe").find("cannot train"), std::string::npos);
}

TEST(SentencePieceTraining, PassesOnTheErrorsOfItsLines) {
  const LineSource broken = [](std::string&) -> bool { fail("line 7 is broken"); };
  EXPECT_EQ(error_of([&] { train_sentencepiece(broken, {}); }), "line 7 is broken");
}

TEST(SentencePieceLoading, ErrorNamesACorruptFile) {
  const Scratch scratch;
  trained({.vocab_size = 200})->save(scratch / "");
  const std::string model = scratch.read("tokenizer.model");
  for (const std::string& content :
       {std::string(), std::string("no model\n"), model.substr(0, model.size() / 2)}) {
    const std::string path = scratch.write("bad.model", content);
    const std::string error = error_of([&] { load_tokenizer(path); });
    EXPECT_NE(error.find("bad.model is not a sentencepiece model"), std::string::npos) << error;
  }
}

TEST(SentencePieceLoading, RefusesDamagedNormalizationRules) {
  const Scratch scratch;
  trained({.vocab_size = 200})->save(scratch / "");
  const std::string model = scratch.read("tokenizer.model");
  // Behind the rules' name, a tag and two sizes: the trie, of which all units point far away.
  const size_t rules = model.find("nmt_nfkc") + 8 + 1 + 3 + 4;
  ASSERT_LT(rules + 4096, model.size());
  std::string damaged = model;
  for (size_t i = rules; i < rules + 4096; i += 4) damaged[i + 3] = '\x7f';
  const std::string path = scratch.write("bad.model", damaged);
  const std::string error = error_of([&] { load_tokenizer(path); });
  EXPECT_NE(error.find("bad.model is not a sentencepiece model"), std::string::npos) << error;
}

TEST(SentencePieceLoading, RefusesPiecesThatAreNotUtf8) {
  const Scratch scratch;
  trained({.vocab_size = 200})->save(scratch / "");
  std::string model = scratch.read("tokenizer.model");
  model[model.find("\xE2\x96\x81")] = '\xFF';
  const std::string path = scratch.write("bad.model", model);
  const std::string error = error_of([&] { load_tokenizer(path); });
  EXPECT_NE(error.find("bad.model is not a sentencepiece model"), std::string::npos) << error;
}

TEST(SentencePieceLoading, RefusesIdsOutsideTheVocabulary) {
  const auto tokenizer = trained({.vocab_size = 200});
  const std::vector<int32_t> ids = {200};
  EXPECT_NE(error_of([&] { tokenizer->decode(ids); }).find("199"), std::string::npos);
}

TEST(LoadTokenizer, ErrorsSayWhatIsMissing) {
  const Scratch scratch;
  EXPECT_NE(error_of([&] { load_tokenizer(scratch / "none"); }).find("does not exist"),
            std::string::npos);
  EXPECT_NE(error_of([&] { load_tokenizer(scratch / ""); }).find("tokenizer.model"),
            std::string::npos);
  const std::string other = scratch.write("readme.md", "text");
  EXPECT_NE(error_of([&] { load_tokenizer(other); }).find("readme.md"), std::string::npos);
}

}  // namespace
}  // namespace quench
