// data.type: bigram_backcopy.
#include "batches/bigram_backcopy.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/log.h"
#include "batches/loader.h"
#include "tests/data/scratch.h"

namespace quench {
namespace {

constexpr int64_t kLength = 32;

class BackcopyDataTest : public testing::Test {
 protected:
  BackcopyDataTest() {
    set_log_level(LogLevel::kWarning);
    data_.max_seq_length = kLength;
    data_.validation_samples = 10;
  }
  ~BackcopyDataTest() override { set_log_level(LogLevel::kInfo); }

  OpenedData open(Subset subset = Subset::kTrain) const { return data_.open(subset, {}); }

  Scratch scratch_;
  BigramBackcopyData data_;
};

at::Tensor ids(const BatchSource& source, std::vector<int64_t> positions, uint64_t seed = 1) {
  const std::vector<int64_t> samples(positions.size());  // of no account
  return source.batch({samples, positions, seed, /*step=*/0, /*training=*/true}).input_ids;
}

TEST_F(BackcopyDataTest, TellsWhatItOpened) {
  const OpenedData train = open(), validation = open(Subset::kValidation);
  EXPECT_EQ(train.max_seq_length, kLength);
  EXPECT_EQ(train.vocabulary_or_classes, 35);
  EXPECT_EQ(train.special_tokens->bos, 34);
  EXPECT_EQ(train.special_tokens->pad, -1);
  EXPECT_EQ(train.special_tokens->eos, -1);
  EXPECT_EQ(train.tokenizer, nullptr);
  EXPECT_EQ(train.source->samples(), kEndless);
  EXPECT_EQ(validation.source->samples(), 10);
  EXPECT_EQ(train.identity, validation.identity);
  EXPECT_NEAR(*train.source->optimal_loss(), 1.5, 0.1);
}

TEST_F(BackcopyDataTest, ACausalModelsLabelsAreItsInputs) {
  const Batch batch = batch_in_order(*open(Subset::kValidation).source, 0, 10, 1);
  EXPECT_EQ(batch.input_ids.sizes(), at::IntArrayRef({10, kLength}));
  EXPECT_EQ(batch.input_ids.scalar_type(), at::kLong);
  EXPECT_TRUE(batch.labels.is_same(batch.input_ids));
  EXPECT_EQ(batch.label_count(/*causal=*/true), 10 * (kLength - 1));
  EXPECT_TRUE(batch.input_ids.select(1, 0).eq(34).all().item<bool>());
}

TEST_F(BackcopyDataTest, ASampleIsAFunctionOfSeedAndPosition) {
  const BatchSourcePtr source = open().source, again = open().source;
  const at::Tensor whole = ids(*source, {40, 41, 42, 43});
  EXPECT_TRUE(at::equal(whole.slice(0, 1, 3), ids(*again, {41, 42}))) << "batching changes nothing";
  const std::vector<int64_t> samples = {7, 8}, positions = {40, 41};
  EXPECT_TRUE(at::equal(whole.slice(0, 0, 2),
                        source->batch({samples, positions, 1, /*step=*/9}).input_ids));
  EXPECT_FALSE(at::equal(whole, ids(*source, {40, 41, 42, 43}, /*seed=*/2)));
  EXPECT_FALSE(at::equal(whole, ids(*source, {44, 45, 46, 47})));
  EXPECT_EQ(std::get<0>(at::unique_dim(ids(*source, {0, 1, 2, 3, 4, 5, 6, 7}), 0)).size(0), 8);
}

TEST_F(BackcopyDataTest, ValidationHasAnotherStream) {
  const at::Tensor train = ids(*open().source, {0, 1, 2}),
                   validation = ids(*open(Subset::kValidation).source, {0, 1, 2});
  for (const at::Tensor& sample : validation.unbind())
    EXPECT_FALSE((train == sample).all(1).any().item<bool>());
}

TEST_F(BackcopyDataTest, BatchSizesCutTheSameStream) {
  const auto stream = [&](int64_t batch_size) {
    Loader loader(training_batches(open().source, {.batch_size = batch_size, .seed = 4}), at::kCPU);
    std::vector<at::Tensor> batches;
    for (int64_t i = 0; i < 12; i += batch_size) batches.push_back(loader.next()->input_ids);
    return at::cat(batches);
  };
  EXPECT_TRUE(at::equal(stream(4), stream(3)));
  EXPECT_TRUE(at::equal(stream(4), ids(*open().source, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, 4)));
}

TEST_F(BackcopyDataTest, TakesTheBigramsOfAFile) {
  const std::string own = open().identity;
  data_.text = scratch_.write("text", "abab cdcd");
  data_.triggers = 1;
  const OpenedData opened = open();
  EXPECT_EQ(opened.vocabulary_or_classes, 6);
  EXPECT_NE(opened.identity, own);
  const at::Tensor samples = ids(*opened.source, {0, 1, 2, 3, 4, 5});
  // The trigger is a (of four characters as frequent the first), so a b is followed by a, ' ' or
  // what an a repeats.
  const at::Tensor of_a = (samples == 1).slice(1, 0, kLength - 1),
                   copied = samples.slice(1, 2) == samples.slice(1, 0, kLength - 2);
  EXPECT_TRUE(copied.logical_or(of_a.slice(1, 1).logical_not()).all().item<bool>());
  scratch_.write("text", "abab cdcd ");
  EXPECT_NE(open().identity, opened.identity) << "the content is what counts";
}

TEST_F(BackcopyDataTest, MistakesAreNamed) {
  data_.text = scratch_ / "none";
  EXPECT_EQ(error_of([&] { data_.validate(); }),
            concat("data.text: file '", scratch_ / "none", "' does not exist"));
  data_.text = scratch_.write("text", "abc");
  EXPECT_EQ(error_of([&] { data_.validate(); }),
            concat("data.text: ", *data_.text,
                   ": the text has 3 different characters; expected more than the 3 triggers"));
  data_.text.reset();
  EXPECT_NO_THROW(data_.validate());
  data_.triggers = 34;
  EXPECT_EQ(
      error_of([&] { data_.validate(); }),
      "data.triggers: the text has 34 different characters; expected more than the 34 triggers");
}

TEST_F(BackcopyDataTest, IsForCausalLanguageModelsOnly) {
  EXPECT_NO_THROW(data_.check_task("clm"));
  for (const char* task : {"mlm", "classification"})
    EXPECT_THROW(data_.check_task(task), UsageError) << task;
}

}  // namespace
}  // namespace quench
