// quench tokenizer and quench data.
#include "tests/cli/cli_test.h"
#include "tests/data/sample_text.h"

namespace quench {
namespace {

class CliTokenizer : public CliTest {
 protected:
  CliTokenizer() {
    for (int file = 0; file < 3; ++file) {
      std::string text;
      for (const std::string& line : sample_lines(200, static_cast<uint64_t>(file)))
        text += line + "\n";
      folder_.write(concat("text/", file, ".txt"), text);
    }
  }
};

TEST_F(CliTokenizer, DecodesWhatItEncoded) {
  done({"tokenizer", "train", "text/*.txt", "--output", "spm", "--type", "bpe", "--vocab-size",
        "150"});
  EXPECT_TRUE(exists("spm/tokenizer.model"));
  const std::string text = folder_.read("text/1.txt");
  const std::string ids = done({"tokenizer", "encode", "spm"}, text);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), '\n'), 200);
  EXPECT_EQ(done({"tokenizer", "decode", "spm"}, ids), text);
  EXPECT_EQ(done({"tokenizer", "encode", "spm", "text/1.txt"}), ids) << "from a file";
  const std::string line = ids.substr(0, ids.find('\n'));
  EXPECT_EQ(done({"tokenizer", "encode", "spm", "--special"}, text.substr(0, text.find('\n'))),
            "2 " + line + " 3\n");
}

TEST_F(CliTokenizer, AnOutputThatCannotBeAFolderIsFoundFirst) {
  folder_.write("file", "precious");
  std::filesystem::create_directory(folder_ / "empty");
  std::filesystem::create_directory_symlink("empty", folder_ / "link");
  for (const char* output : {"file", ".", "empty/..", "link"}) {
    const Outcome refused = quench({"tokenizer", "train", "text/*.txt", "--output", output});
    EXPECT_EQ(refused.status, 2) << output;
    EXPECT_NE(refused.err.find(concat("--output ", output, ": expected a folder")),
              std::string::npos)
        << refused.err;
  }
  EXPECT_EQ(folder_.read("file"), "precious");
}

TEST_F(CliTokenizer, RefusesAVocabularyTooSmallForTheSpecialTokens) {
  const Outcome refused =
      quench({"tokenizer", "train", "text/*.txt", "--output", "spm", "--vocab-size", "5"});
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("--vocab-size"), std::string::npos) << refused.err;
}

TEST_F(CliTokenizer, EncodesTextsOfSeveralLinesFromJson) {
  done({"tokenizer", "train", "text/*.txt", "--output", "spm", "--vocab-size", "150"});
  EXPECT_EQ(done({"tokenizer", "encode", "spm", "--json"}, "\"ka\\nlo\"\n\"\"\n"),
            done({"tokenizer", "encode", "spm"}, "ka lo\n\n"));
  const Outcome bare = quench({"tokenizer", "encode", "spm", "--json"}, "ka\n");
  EXPECT_EQ(bare.status, 1);
  EXPECT_NE(bare.err.find("ka is not a JSON string"), std::string::npos) << bare.err;
}

TEST_F(CliTokenizer, NamesTheLineOfABadId) {
  done({"tokenizer", "train", "text/*.txt", "--output", "spm", "--vocab-size", "150"});
  const Outcome outside = quench({"tokenizer", "decode", "spm"}, "5 6\n7 150\n");
  EXPECT_EQ(outside.status, 1);
  EXPECT_NE(outside.err.find("line 2: id 150 is outside the vocabulary of 150"), std::string::npos)
      << outside.err;
  const Outcome word = quench({"tokenizer", "decode", "spm"}, "5 six\n");
  EXPECT_EQ(word.status, 1);
  EXPECT_NE(word.err.find("line 1: expected ids"), std::string::npos) << word.err;
  EXPECT_EQ(word.out, "");
}

TEST_F(CliTokenizer, DataIsPreparedAndShown) {
  folder_.write(
      "text.yaml",
      kModel.substr(0, kModel.find("  vocab_size")) +
          "  hidden_size: 16\n  num_attention_heads: 2\n"
          "data: {type: text, files: ['text/*.txt'], validation_share: 0.3, max_seq_length: 16}\n"
          "tokenizer: {vocab_size: 120}\n");
  const std::string prepared = done({"data", "prepare", "text.yaml"});
  EXPECT_TRUE(prepared.starts_with("train: ")) << prepared;
  EXPECT_NE(prepared.find("\nvalidation: "), std::string::npos) << prepared;
  EXPECT_TRUE(exists("cache/tokens"));
  const std::string shown = done({"data", "show", "text.yaml", "--samples", "2"});
  EXPECT_NE(shown.find("sample 1: 16 tokens, "), std::string::npos) << shown;
  EXPECT_EQ(shown.find("sample 2"), std::string::npos);
}

TEST_F(CliTokenizer, OnlyATokenizerIsReplaced) {
  std::string text;
  for (const std::string& line : sample_lines(300)) text += line + "\n";
  folder_.write("a.txt", text);
  folder_.write("precious/notes.txt", "text");
  const std::vector<std::string> train = {"tokenizer",    "train", "a.txt",
                                          "--vocab-size", "100",   "--output"};
  const auto to = [&](const char* output) {
    std::vector<std::string> arguments = train;
    arguments.push_back(output);
    return quench(arguments);
  };
  const Outcome refused = to("precious");
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("precious holds 'notes.txt' already"), std::string::npos)
      << refused.err;
  EXPECT_EQ(folder_.read("precious/notes.txt"), "text");
  EXPECT_EQ(to("new").status, 0);
  EXPECT_EQ(to("new").status, 0);
}

}  // namespace
}  // namespace quench
