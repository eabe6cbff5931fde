// data.type: text, from files to batches.
#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <sstream>

#include "base/environment.h"
#include "base/log.h"
#include "batches/loader.h"
#include "batches/text.h"
#include "config/fields.h"
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
    std::set<std::string> found;
    std::istringstream text(opened.tokenizer->decode(row));
    for (std::string word; text >> word;)
      if (word.size() > 1 && word == "q" + std::string(word.size() - 2, 'i') + "q")
        found.insert(word);
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

TEST_F(TextDataTest, ACausalModelsLabelsAreItsInputs) {
  const Batch batch = batch_in_order(*open(Subset::kTrain, "clm").source, 0, 2, 1);
  EXPECT_TRUE(batch.labels.is_same(batch.input_ids));
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

// The eight files as two corpora of four, without masks.
class CorporaTest : public TextDataTest {
 protected:
  CorporaTest() {
    data_.files.clear();
    data_.validation_share = 0;
    data_.corpora = {{{scratch_ / "corpus/[0-3].txt"}, {}, 1},
                     {{scratch_ / "corpus/[4-7].txt"}, {}, 1}};
  }
  BatchSourcePtr source(Subset subset = Subset::kTrain) const { return open(subset, "clm").source; }
  static at::Tensor all(const BatchSource& source) {
    return batch_in_order(source, 0, source.samples(), 0).input_ids;
  }
  // What a corpus alone gives, tokenized as beside the others.
  at::Tensor alone(const TextCorpus& corpus, Subset subset = Subset::kTrain) const {
    DataContext with_tokenizer = context("clm");
    with_tokenizer.tokenizer = open(Subset::kTrain).tokenizer;
    TextData data = data_;
    data.corpora = {corpus};
    return all(*data.open(subset, with_tokenizer).source);
  }
  std::map<std::string, fs::file_time_type> cached() const {
    std::map<std::string, fs::file_time_type> found;
    for (const auto& entry : fs::recursive_directory_iterator(scratch_ / "cache"))
      if (entry.is_regular_file()) found[entry.path().string()] = fs::last_write_time(entry.path());
    return found;
  }
};

TEST_F(CorporaTest, AreConcatenatedAsOftenAsTheirWeightsSay) {
  const at::Tensor first = alone(data_.corpora[0]), second = alone(data_.corpora[1]);
  EXPECT_TRUE(at::equal(all(*source()), at::cat({first, second})));
  data_.corpora[0].weight = 2;
  EXPECT_TRUE(at::equal(all(*source()), at::cat({first, first, second})));
}

TEST_F(CorporaTest, OneIsTheSameAsTheShortForm) {
  TextData short_form = data_;
  short_form.corpora.clear();
  short_form.files = data_.corpora[0].files;
  short_form.validation_share = data_.validation_share = 0.25;
  data_.corpora.pop_back();
  for (const Subset subset : {Subset::kTrain, Subset::kValidation}) {
    const OpenedData expected = short_form.open(subset, context("mlm"));
    const auto before = cached();
    const OpenedData opened = open(subset);
    const int64_t samples = expected.source->samples();
    ASSERT_EQ(opened.source->samples(), samples);
    const Batch a = batch_in_order(*expected.source, 0, samples, 5),
                b = batch_in_order(*opened.source, 0, samples, 5);
    EXPECT_TRUE(at::equal(a.input_ids, b.input_ids));
    EXPECT_TRUE(at::equal(a.labels, b.labels));
    EXPECT_EQ(cached(), before);
  }
}

TEST_F(CorporaTest, AFractionalWeightTakesAnotherPartEveryEpoch) {
  const at::Tensor chunks = alone(data_.corpora[1]);
  const int64_t whole = alone(data_.corpora[0]).size(0), part = std::llround(0.4 * chunks.size(0));
  data_.corpora[1].weight = 0.4;
  const BatchSourcePtr mixed = source();
  ASSERT_EQ(mixed->samples(), whole + part);
  std::vector<int64_t> counts(static_cast<size_t>(chunks.size(0)));
  bool in_order = true;
  for (int64_t epoch = 0; epoch < 5; ++epoch) {
    int64_t last = -1;
    for (int64_t sample = whole; sample < whole + part; ++sample) {
      const int64_t position = epoch * mixed->samples() + (sample + 7 * epoch) % mixed->samples();
      const at::Tensor ids = request(*mixed, {sample}, {position}).input_ids;
      const int64_t chunk = (chunks == ids).all(1).nonzero().item<int64_t>();
      ++counts[static_cast<size_t>(chunk)];
      in_order = in_order && chunk > last;
      last = chunk;
    }
    const auto [least, most] = std::ranges::minmax(counts);
    EXPECT_LE(most - least, 1) << "after epoch " << epoch;
  }
  EXPECT_FALSE(in_order) << "a part should stand for the whole";
  EXPECT_TRUE(at::equal(request(*mixed, {3}, {3}).input_ids,
                        request(*mixed, {3}, {3 + 2 * mixed->samples()}).input_ids))
      << "of a weight of 1 sample and chunk stay the same";
}

TEST_F(CorporaTest, AResumedLoaderGoesOnInAnyEpoch) {
  data_.corpora[1].weight = 0.3;
  const TrainingOrder order{.batch_size = 32, .seed = 4};
  const int64_t late = 2 * source()->samples() / 32;
  Loader whole(training_batches(source(), order), at::kCPU),
      resumed(training_batches(source(), order), at::kCPU, late);
  for (int64_t step = 0; step < late; ++step) whole.next();
  for (int i = 0; i < 3; ++i)
    EXPECT_TRUE(at::equal(whole.next()->input_ids, resumed.next()->input_ids));
}

TEST_F(CorporaTest, ASmallWeightStillGivesASample) {
  data_.corpora[1].weight = 0.001;
  EXPECT_EQ(source()->samples(), alone(data_.corpora[0]).size(0) + 1);
}

TEST_F(CorporaTest, ValidationHasWhatIsHeldOutOnce) {
  data_.corpora = {{{scratch_ / "corpus/[0-3].txt"}, {scratch_ / "corpus/2.txt"}, 3},
                   {{scratch_ / "corpus/[456].txt"}, {}, 1},
                   {{scratch_ / "corpus/[67].txt"}, {scratch_ / "corpus/6.txt"}, 0.1}};
  EXPECT_EQ(marks(Subset::kValidation), (std::set<std::string>{mark(2), mark(6)}));
  EXPECT_TRUE(at::equal(all(*source(Subset::kValidation)),
                        at::cat({alone({{scratch_ / "corpus/2.txt"}, {}, 1}),
                                 alone({{scratch_ / "corpus/6.txt"}, {}, 1})})));
  EXPECT_EQ(marks(Subset::kTrain),
            (std::set<std::string>{mark(0), mark(1), mark(3), mark(4), mark(5), mark(7)}))
      << "no corpus trains on what another holds out";
}

TEST_F(CorporaTest, AShareIsHeldOutOfEach) {
  data_.validation_share = 0.25;
  const std::set<std::string> held_out = marks(Subset::kValidation);
  const auto has_one_of = [&](std::initializer_list<int> files) {
    return std::ranges::any_of(files, [&](int file) { return held_out.contains(mark(file)); });
  };
  EXPECT_TRUE(has_one_of({0, 1, 2, 3}));
  EXPECT_TRUE(has_one_of({4, 5, 6, 7}));
}

TEST_F(CorporaTest, TheTokenizerIsTrainedOnAll) {
  TextData one = data_;
  one.corpora.clear();
  one.files = {scratch_ / "corpus/*.txt"};
  EXPECT_EQ(open(Subset::kTrain).tokenizer->hash(),
            one.open(Subset::kTrain, context("mlm")).tokenizer->hash());
}

TEST_F(CorporaTest, WeightsAndNeighboursRetokenizeNothing) {
  const OpenedData opened = open(Subset::kTrain);
  const auto before = cached();
  data_.corpora[0].weight = 1.5;
  open(Subset::kTrain);
  EXPECT_EQ(cached(), before);

  scratch_.write("new/0.txt", scratch_.read("corpus/0.txt"));
  data_.corpora.push_back({{scratch_ / "new/0.txt"}, {}, 1});
  DataContext with_tokenizer = context("mlm");
  with_tokenizer.tokenizer = opened.tokenizer;
  data_.open(Subset::kTrain, with_tokenizer);
  const auto after = cached();
  EXPECT_EQ(after.size(), before.size() + 3);  // index, shard, the scan
  for (const auto& entry : before) EXPECT_EQ(after.at(entry.first), entry.second);
}

TEST_F(CorporaTest, MistakesNameTheCorpus) {
  const auto expect_error = [&](const std::string& error,
                                std::initializer_list<const char*> parts) {
    for (const char* part : parts)
      EXPECT_NE(error.find(part), std::string::npos) << part << "\n" << error;
  };
  data_.corpora[1].validation_files = {scratch_ / "no/*.txt"};
  expect_error(error_of([&] { data_.validate(); }), {"data.corpora.1", "no/*.txt"});
  data_.corpora[1].validation_files = data_.corpora[1].files;
  EXPECT_NO_THROW(data_.validate());
  expect_error(error_of([&] { source(); }), {"data.corpora.1", "every file is held out"});
  data_.corpora[1] = {{scratch_.write("short.txt", "kalo")}, {}, 1};
  expect_error(error_of([&] { source(); }), {"train of data.corpora.1", "too short"});
  data_.corpora.pop_back();
  expect_error(error_of([&] { source(Subset::kValidation); }),
               {"data: no file is held out", "validation_share"});
}

// One file of 60 lines, a quarter of whose chunks is held out.
class LoneFileTest : public CorporaTest {
 protected:
  LoneFileTest() {
    data_.validation_share = 0.25;
    data_.corpora = {{{scratch_ / "corpus/0.txt"}, {}, 1}};
  }
  // All chunks of the file.
  at::Tensor whole() const {
    TextData data = data_;
    data.validation_share = 0;
    return all(*data.open(Subset::kTrain, context("clm")).source);
  }
};

TEST_F(LoneFileTest, ItsLastChunksAreHeldOut) {
  const at::Tensor chunks = whole();
  const int64_t held_out = std::llround(0.25 * static_cast<double>(chunks.size(0)));
  ASSERT_GE(held_out, 2);
  const auto before = cached();
  EXPECT_TRUE(at::equal(all(*source()), chunks.slice(0, 0, -held_out)));
  EXPECT_TRUE(at::equal(all(*source(Subset::kValidation)), chunks.slice(0, -held_out)));
  EXPECT_EQ(cached(), before) << "one prepared set for both";
}

TEST_F(LoneFileTest, EitherSideHasAChunk) {
  const int64_t chunks = whole().size(0);
  data_.validation_share = 1e-9;
  EXPECT_EQ(source(Subset::kValidation)->samples(), 1);
  EXPECT_EQ(source()->samples(), chunks - 1);
  data_.validation_share = 1 - 1e-9;
  EXPECT_EQ(source(Subset::kValidation)->samples(), chunks - 1);
  EXPECT_EQ(source()->samples(), 1);
}

TEST_F(LoneFileTest, WeightsCountItsOwnPart) {
  const int64_t part = source()->samples();
  const at::Tensor held_out = all(*source(Subset::kValidation));
  data_.corpora[0].weight = 1.5;
  const BatchSourcePtr more = source();
  EXPECT_EQ(more->samples(), std::llround(1.5 * static_cast<double>(part)));
  for (const at::Tensor& chunk : held_out.unbind())
    EXPECT_FALSE((all(*more) == chunk).all(1).any().item<bool>());
}

TEST_F(LoneFileTest, NoOtherCorpusTrainsOnIt) {
  data_.corpora.push_back({{scratch_ / "corpus/[01].txt"}, {scratch_ / "corpus/2.txt"}, 1});
  const at::Tensor own = alone(data_.corpora[0]),
                   other = alone({{scratch_ / "corpus/1.txt"}, {scratch_ / "corpus/2.txt"}, 1});
  EXPECT_TRUE(at::equal(all(*source()), at::cat({own, other})));
  data_.corpora[1].validation_files = {scratch_ / "corpus/0.txt"};
  EXPECT_NE(error_of([&] { source(); }).find("data.corpora.0: every file is held out"),
            std::string::npos);
}

TEST_F(LoneFileTest, ASingleChunkCannotBeSplit) {
  const int64_t tokens = whole().numel();
  data_.max_seq_length = tokens - kLength;
  try {
    source();
    FAIL() << "no error";
  } catch (const UsageError& error) {
    for (const std::string& part : {std::string("data.validation_share"), scratch_ / "corpus/0.txt",
                                    concat("1 chunk of ", tokens - kLength, " tokens")})
      EXPECT_NE(std::string(error.what()).find(part), std::string::npos) << error.what();
  }
}

// Each sequence begins with the token that begins a document.
class BeginTest : public CorporaTest {
 protected:
  // What it was without that token, and what it is with it.
  std::pair<OpenedData, OpenedData> both(const std::string& task = "clm",
                                         Subset subset = Subset::kTrain) {
    data_.begin = "none";
    OpenedData none = open(subset, task);
    data_.begin = "bos";
    return {std::move(none), open(subset, task)};
  }
  static void expect_begun(const at::Tensor& ids, const at::Tensor& tokens, int64_t begin) {
    EXPECT_EQ(ids.size(0), tokens.numel() / (kLength - 1));
    EXPECT_TRUE(ids.select(1, 0).eq(begin).all().item<bool>());
    const at::Tensor rest = ids.slice(1, 1).flatten();
    EXPECT_TRUE(at::equal(rest, tokens.slice(0, 0, rest.numel())));
    EXPECT_LT(tokens.numel() - rest.numel(), kLength - 1);
  }
};

TEST_F(BeginTest, NoTokenIsLostOrDoubled) {
  data_.corpora.pop_back();
  const auto [none, bos] = both();
  expect_begun(all(*bos.source), all(*none.source).flatten(), bos.tokenizer->enclosing().first);
  EXPECT_EQ(bos.tokenizer->enclosing().first, bos.tokenizer->special().cls);
  EXPECT_EQ(bos.max_seq_length, kLength);
  const Batch batch = batch_in_order(*bos.source, 0, 2, 1);
  EXPECT_TRUE(batch.labels.is_same(batch.input_ids));
}

TEST_F(BeginTest, EachCorpusIsAStreamOfItsOwn) {
  const OpenedData opened = both().second;
  const at::Tensor first = alone(data_.corpora[0]), second = alone(data_.corpora[1]);
  EXPECT_TRUE(at::equal(all(*opened.source), at::cat({first, second})));
  data_.corpora[1].weight = 0.5;
  EXPECT_EQ(source()->samples(),
            first.size(0) + std::llround(0.5 * static_cast<double>(second.size(0))));
}

TEST_F(BeginTest, WhatIsPreparedServesBoth) {
  data_.validation_share = 0.25;
  both("mlm", Subset::kTrain);
  data_.begin = "none";
  open(Subset::kValidation);
  const auto before = cached();
  data_.begin = "bos";
  for (const Subset subset : {Subset::kTrain, Subset::kValidation}) open(subset);
  EXPECT_EQ(cached(), before);
}

TEST_F(BeginTest, ThatTokenIsNeverMasked) {
  const auto [none, bos] = both("mlm");
  const int64_t samples = bos.source->samples();
  const Batch masked = batch_in_order(*bos.source, 0, samples, 1);
  const at::Tensor original = all(*source());
  EXPECT_TRUE(masked.labels.select(1, 0).eq(-100).all().item<bool>());
  EXPECT_TRUE(at::equal(masked.input_ids.select(1, 0), original.select(1, 0)));
  const at::Tensor labelled = masked.labels != -100;
  EXPECT_TRUE(at::equal(masked.labels.masked_select(labelled), original.masked_select(labelled)));
  EXPECT_NEAR(labelled.slice(1, 1).to(at::kDouble).mean().item<double>(), 0.15, 0.03);
  EXPECT_TRUE(at::equal(masked.label_positions, labelled.flatten().nonzero().squeeze(1)));
}

TEST_F(BeginTest, OfALoneFileNeitherSideReadsTheOthersTokens) {
  data_.validation_share = 0.25;
  data_.corpora = {{{scratch_ / "corpus/0.txt"}, {}, 1}};
  for (const Subset subset : {Subset::kTrain, Subset::kValidation}) {
    const auto [none, bos] = both("clm", subset);
    expect_begun(all(*bos.source), all(*none.source).flatten(), bos.tokenizer->enclosing().first);
  }
}

// Bytes, and nothing else.
class PlainTokenizer : public Tokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    for (const unsigned char byte : text) ids.push_back(byte);
    return ids;
  }
  std::string decode(std::span<const int32_t>) const override { return ""; }
  int64_t vocab_size() const override { return 257; }
  const SpecialTokens& special() const override { return special_; }
  void save(const std::string&) const override {}
  std::string hash() const override { return "plain"; }

 private:
  SpecialTokens special_{.eos = 256};
};

TEST_F(BeginTest, ATokenizerWithoutSuchATokenIsRefused) {
  DataContext plain = context("clm");
  plain.tokenizer = std::make_shared<PlainTokenizer>();
  EXPECT_NO_THROW(data_.open(Subset::kTrain, plain));
  fs::remove_all(scratch_ / "cache");
  data_.begin = "bos";
  EXPECT_EQ(
      error_of([&] { data_.open(Subset::kTrain, plain); }),
      "data.begin: bos needs a tokenizer that begins a document with a token of its own (<s>, "
      "[CLS]), and this one does not");
  EXPECT_FALSE(fs::exists(scratch_ / "cache")) << "before anything is prepared";
}

struct TextConfig {
  std::shared_ptr<DataConfig> data;
};
void describe(config::Fields& f, TextConfig& c) { f.variant("data", c.data, data_types(), "data"); }

TextConfig read_data(const std::string& keys) {
  TextConfig config;
  config::read(config::parse("data: {type: text, " + keys + "}", {"a.yaml", 1}), config);
  return config;
}

TEST(TextConfig, TakesFilesOrCorpora) {
  const TextConfig several =
      read_data("files: [], corpora: [{files: [a], weight: 0.5}, {files: [b, c]}]");
  const auto& data = dynamic_cast<const TextData&>(*several.data);
  ASSERT_EQ(data.corpora.size(), 2u);
  EXPECT_EQ(data.corpora[0].weight, 0.5);
  EXPECT_EQ(data.corpora[1].weight, 1);
  EXPECT_EQ(data.corpora[1].files, (std::vector<std::string>{"b", "c"}));
  EXPECT_NO_THROW(read_data("files: [a], corpora: []"));

  for (const auto& [keys, message] :
       {std::pair{"max_seq_length: 8", "data.files: expected at least one file or pattern, or"},
        {"files: [a], corpora: [{files: [b]}]", "data.files: expected none beside `corpora`"},
        {"validation_files: [a], corpora: [{files: [b]}]",
         "data.validation_files: expected none beside `corpora`"},
        {"corpora: [{files: [a]}, {weight: 2}]", "data.corpora.1.files: expected at least one"},
        {"corpora: [{files: [a], weight: 0}]",
         "data.corpora.0.weight: expected a number from 0.001 to 1000, got 0"}}) {
    const std::string error = error_of([&] { read_data(keys); });
    EXPECT_NE(error.find(message), std::string::npos) << error;
  }
}

TEST(ExpandVariables, FindsLibTorchsHeaders) {
  EXPECT_TRUE(fs::exists(fs::path(expand_variables("${LIBTORCH_INCLUDE}")) / "c10"));
}

}  // namespace
}  // namespace quench
