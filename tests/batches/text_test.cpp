// data.type: text, from files to batches.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <regex>
#include <set>

#include "base/log.h"
#include "batches/data_config.h"
#include "tests/data/sample_text.h"
#include "tests/data/scratch.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

constexpr int kFiles = 8;
constexpr int64_t kLength = 32;

// What every line of file k begins with, made of letters that all files share.
std::string mark(int file) { return "q" + std::string(static_cast<size_t>(file), 'i') + "q"; }

// Eight files, one document a line.
class TextDataTest : public testing::Test {
 protected:
  TextDataTest() {
    set_log_level(LogLevel::kWarning);
    for (int file = 0; file < kFiles; ++file) {
      std::string text;
      for (const std::string& line : sample_lines(60, static_cast<uint64_t>(file)))
        text += mark(file) + ' ' + line + '\n';
      scratch_.write(concat("corpus/", file, ".txt"), text);
    }
    data_.files = {scratch_ / "corpus/*.txt"};
    data_.validation_share = 0.25;
    data_.max_seq_length = kLength;
    data_.document = "line";
    data_.cache = scratch_ / "cache";
  }
  ~TextDataTest() override { set_log_level(LogLevel::kInfo); }

  DataContext context(const std::string& task) const {
    DataContext context{task, 0.15, {}, nullptr};
    context.tokenizer_config.vocab_size = 120;
    context.tokenizer_config.character_coverage = 1;
    return context;
  }
  OpenedData open(Subset subset, const std::string& task = "mlm") const {
    return data_.open(subset, context(task));
  }

  // The marks of the files that a subset's text comes from.
  std::set<std::string> marks(Subset subset) const {
    const OpenedData opened = open(subset, "clm");
    const at::Tensor ids =
        batch_in_order(*opened.source, 0, opened.source->samples(), 0).input_ids.to(at::kInt);
    const std::vector<int32_t> row(ids.const_data_ptr<int32_t>(),
                                   ids.const_data_ptr<int32_t>() + ids.numel());
    const std::string text = opened.tokenizer->decode(row);
    const std::regex any_mark("\\bqi*q\\b");
    std::set<std::string> found;
    for (std::sregex_iterator it(text.begin(), text.end(), any_mark), end; it != end; ++it)
      found.insert(it->str());
    return found;
  }

  Scratch scratch_;
  TextData data_;
};

Batch request(const BatchSource& source, std::vector<int64_t> samples,
              std::vector<int64_t> positions, uint64_t seed = 1, int64_t step = 0) {
  return source.batch({samples, positions, seed, step, /*training=*/true});
}

TEST_F(TextDataTest, TellsWhatItOpened) {
  const OpenedData opened = open(Subset::kTrain);
  EXPECT_EQ(opened.max_seq_length, kLength);
  EXPECT_EQ(opened.vocabulary_or_classes, 120);
  EXPECT_EQ(opened.tokenizer->vocab_size(), 120);
  EXPECT_GT(opened.source->samples(), 50);
}

TEST_F(TextDataTest, MasksOnlyWhatItLabels) {
  const OpenedData opened = open(Subset::kTrain);
  const int64_t all = opened.source->samples();
  const Batch masked = batch_in_order(*opened.source, 0, all, 1);
  const at::Tensor original =
      batch_in_order(*open(Subset::kTrain, "clm").source, 0, all, 1).input_ids;
  EXPECT_EQ(masked.input_ids.sizes(), at::IntArrayRef({all, kLength}));

  const at::Tensor labelled = masked.labels != -100;
  EXPECT_TRUE(at::equal(masked.labels.masked_select(labelled), original.masked_select(labelled)));
  const at::Tensor untouched = labelled.logical_not();
  EXPECT_TRUE(
      at::equal(masked.input_ids.masked_select(untouched), original.masked_select(untouched)));
  EXPECT_TRUE(at::equal(masked.label_positions, labelled.flatten().nonzero().squeeze(1)));

  const at::Tensor masks = masked.input_ids == opened.tokenizer->special().mask;
  EXPECT_EQ((masks.logical_and(untouched)).sum().item<int64_t>(), 0);
  EXPECT_NEAR(labelled.to(at::kDouble).mean().item<double>(), 0.15, 0.03);
  EXPECT_NEAR(masks.sum().item<double>() / labelled.sum().item<double>(), 0.8, 0.1);
}

TEST_F(TextDataTest, NeverLabelsSpecialTokens) {
  const OpenedData opened = open(Subset::kTrain);
  const at::Tensor labels = batch_in_order(*opened.source, 0, opened.source->samples(), 1).labels;
  for (const int32_t id : opened.tokenizer->special().structural())
    EXPECT_EQ((labels == id).sum().item<int64_t>(), 0) << id;
}

TEST_F(TextDataTest, ABatchIsAFunctionOfSeedAndPosition) {
  const BatchSourcePtr source = open(Subset::kTrain).source, again = open(Subset::kTrain).source;
  const Batch first = request(*source, {3, 5}, {40, 41});
  const Batch same = request(*again, {3, 5}, {40, 41}, 1, /*step=*/9);
  EXPECT_TRUE(at::equal(first.input_ids, same.input_ids));
  EXPECT_TRUE(at::equal(first.labels, same.labels));
  EXPECT_TRUE(at::equal(first.labels[1], request(*source, {5}, {41}).labels[0]))
      << "batching changes nothing";
  EXPECT_FALSE(at::equal(first.labels, request(*source, {3, 5}, {50, 51}).labels));
  EXPECT_FALSE(at::equal(first.labels, request(*source, {3, 5}, {40, 41}, /*seed=*/2).labels));
}

TEST_F(TextDataTest, CausalLabelsAreTheTokensThemselves) {
  const Batch batch = request(*open(Subset::kTrain, "clm").source, {0, 1}, {0, 1});
  EXPECT_TRUE(at::equal(batch.labels, batch.input_ids));
}

TEST_F(TextDataTest, SplitsByFile) {
  const std::set<std::string> train = marks(Subset::kTrain),
                              validation = marks(Subset::kValidation);
  EXPECT_EQ(train.size() + validation.size(), static_cast<size_t>(kFiles));
  EXPECT_GE(validation.size(), 1u);
  EXPECT_GE(train.size(), validation.size());
  for (const std::string& name : validation) EXPECT_FALSE(train.count(name)) << name;
}

TEST_F(TextDataTest, HoldsOutTheFilesThatItIsTold) {
  data_.validation_files = {scratch_ / "corpus/[36].txt"};
  EXPECT_EQ(marks(Subset::kValidation), (std::set<std::string>{mark(3), mark(6)}));
  EXPECT_EQ(marks(Subset::kTrain),
            (std::set<std::string>{mark(0), mark(1), mark(2), mark(4), mark(5), mark(7)}));
}

TEST_F(TextDataTest, KeepsTokenizerAndTokensInTheCache) {
  const auto entries = [&] {
    std::map<std::string, fs::file_time_type> found;
    for (const auto& entry : fs::recursive_directory_iterator(scratch_ / "cache"))
      found[entry.path().string()] = fs::last_write_time(entry.path());
    return found;
  };
  const std::string hash = open(Subset::kTrain).tokenizer->hash();
  const auto before = entries();
  EXPECT_EQ(open(Subset::kTrain).tokenizer->hash(), hash);
  EXPECT_EQ(entries(), before);
}

TEST_F(TextDataTest, UsesAModelsOwnTokenizer) {
  DataContext with_own = context("mlm");
  with_own.tokenizer = open(Subset::kTrain).tokenizer;
  with_own.tokenizer_config.vocab_size = 90;
  EXPECT_EQ(data_.open(Subset::kTrain, with_own).tokenizer, with_own.tokenizer);
}

TEST_F(TextDataTest, APatternWithoutFilesIsAConfigError) {
  data_.files.push_back(scratch_ / "no/*.txt");
  try {
    data_.validate();
    FAIL() << "no error";
  } catch (const UsageError& error) {
    EXPECT_NE(std::string(error.what()).find("data.files"), std::string::npos) << error.what();
    EXPECT_NE(std::string(error.what()).find("no/*.txt"), std::string::npos) << error.what();
  }
  EXPECT_FALSE(fs::exists(scratch_ / "cache"));
}

TEST(ExpandVariables, ReplacesNamesInBraces) {
  ::setenv("QUENCH_TEST_VARIABLE", "here", 1);
  EXPECT_EQ(expand_variables("a/${QUENCH_TEST_VARIABLE}/${QUENCH_TEST_VARIABLE}/*.h"),
            "a/here/here/*.h");
  EXPECT_EQ(expand_variables("$HOME/{x}"), "$HOME/{x}");
  EXPECT_TRUE(fs::exists(fs::path(expand_variables("${LIBTORCH_INCLUDE}")) / "c10"));
  EXPECT_EQ(error_of([] { expand_variables("${QUENCH_NOT_SET}/x"); }),
            "'${QUENCH_NOT_SET}/x': the environment variable QUENCH_NOT_SET is not set");
  EXPECT_EQ(error_of([] { expand_variables("a${HOME"); }), "'a${HOME': '${' without a closing '}'");
}

}  // namespace
}  // namespace quench
