#include "batches/loader.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <set>

#include "data/sampler.h"
#include "tests/io/temporary_folder.h"
#include "tests/support/golden.h"

namespace quench {
namespace {

// A sample's row holds everything that its batch was asked with.
class RecordingSource : public BatchSource {
 public:
  explicit RecordingSource(int64_t failing_step = -1) : failing_step_(failing_step) {}

  int64_t samples() const override { return 10; }
  Batch batch(const BatchRequest& request) const override {
    if (request.step == failing_step_) fail("cannot read sample ", request.samples[0]);
    ++made;
    Batch batch;
    const int64_t size = static_cast<int64_t>(request.samples.size());
    batch.input_ids = at::empty({size, 5}, at::kLong);
    for (int64_t i = 0; i < size; ++i) {
      const int64_t row[] = {request.samples[static_cast<size_t>(i)],
                             request.positions[static_cast<size_t>(i)],
                             static_cast<int64_t>(request.seed), request.step, request.training};
      std::copy(row, row + 5, batch.input_ids[i].mutable_data_ptr<int64_t>());
    }
    return batch;
  }

  mutable std::atomic<int> made = 0;

 private:
  int64_t failing_step_;
};

BatchSourcePtr recording() { return std::make_shared<RecordingSource>(); }

std::vector<int64_t> column(const Batch& batch, int64_t index) {
  const at::Tensor x = batch.input_ids.select(1, index).contiguous();
  return {x.const_data_ptr<int64_t>(), x.const_data_ptr<int64_t>() + x.numel()};
}

// What a training run of these samples would use.
class TrainingLoader : public Loader {
 public:
  explicit TrainingLoader(const TrainingOrder& order, int64_t first = 0,
                          BatchSourcePtr source = recording())
      : Loader(training_batches(std::move(source), order), testing::device(), first) {}
};

TEST(Loader, AsksForTheBatchesOfTheStreamInOrder) {
  TrainingLoader loader({.batch_size = 4, .seed = 9});
  const Sampler sampler(10, 9, /*shuffle=*/true);
  for (int64_t step = 0; step < 8; ++step) {
    const Batch batch = *loader.next();
    for (int64_t i = 0; i < 4; ++i) {
      const int64_t position = 4 * step + i;
      EXPECT_TRUE(at::equal(batch.input_ids[i], at::tensor({sampler.index(position), position,
                                                            int64_t{9}, step, int64_t{1}})));
    }
  }
}

TEST(Loader, ResumesWithTheBatchThatCameNext) {
  const TrainingOrder order{.batch_size = 3, .seed = 9};
  TrainingLoader whole(order), resumed(order, /*first=*/5);
  for (int i = 0; i < 5; ++i) whole.next();
  for (int i = 0; i < 5; ++i)
    EXPECT_TRUE(at::equal(whole.next()->input_ids, resumed.next()->input_ids));
}

TEST(Loader, RanksShareOneGlobalBatch) {
  TrainingOrder order{.batch_size = 4, .seed = 9};
  TrainingLoader one(order);
  order.batch_size = 2;
  order.world_size = 2;
  TrainingLoader first(order);
  order.rank = 1;
  TrainingLoader second(order);
  for (int step = 0; step < 4; ++step) {
    const at::Tensor both = at::cat({first.next()->input_ids, second.next()->input_ids});
    EXPECT_TRUE(at::equal(one.next()->input_ids, both));
  }
}

TEST(Loader, ShufflesUnlessToldOtherwise) {
  const TrainingOrder in_order{.batch_size = 10, .seed = 9, .shuffle = false};
  TrainingLoader straight(in_order);
  const std::vector<int64_t> all = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  EXPECT_EQ(column(*straight.next(), 0), all);
  EXPECT_EQ(column(*straight.next(), 0), all);

  TrainingOrder shuffled = in_order;
  shuffled.shuffle = true;
  TrainingLoader loader(shuffled);
  const std::vector<int64_t> first = column(*loader.next(), 0), second = column(*loader.next(), 0);
  for (const auto& epoch : {first, second}) {
    EXPECT_NE(epoch, all);
    EXPECT_EQ(std::set<int64_t>(epoch.begin(), epoch.end()).size(), 10u);
  }
  EXPECT_NE(first, second);
}

TEST(Loader, HandsOverAnErrorAfterTheBatchesBeforeIt) {
  TrainingLoader loader({.batch_size = 1, .shuffle = false}, /*first=*/0,
                        std::make_shared<RecordingSource>(2));
  EXPECT_EQ(column(*loader.next(), 3)[0], 0);
  EXPECT_EQ(column(*loader.next(), 3)[0], 1);
  EXPECT_EQ(error_of([&] { loader.next(); }), "cannot read sample 2");
  EXPECT_EQ(error_of([&] { loader.next(); }), "cannot read sample 2") << "and again";
}

TEST(Loader, StopsWhileItIsAhead) {
  const auto source = std::make_shared<RecordingSource>();
  { TrainingLoader loader({.batch_size = 1}, /*first=*/0, source); }
  {
    TrainingLoader loader({.batch_size = 1}, /*first=*/0, source);
    loader.next();
  }
  EXPECT_LE(source->made, 10) << "it makes few batches ahead";
}

TEST(Loader, EndsWhereItsStreamDoes) {
  const RecordingSource source;
  for (const int64_t length : {0, 1, 7}) {
    Loader loader(
        [&](int64_t step) -> std::optional<Batch> {
          if (step == length) return std::nullopt;
          return batch_in_order(source, step, 1, 0);
        },
        testing::device());
    for (int64_t step = 0; step < length; ++step) EXPECT_EQ(column(*loader.next(), 0)[0], step);
    EXPECT_FALSE(loader.next());
    EXPECT_FALSE(loader.next()) << "and again";
  }
}

TEST(Loader, PinsForACudaDeviceAlone) {
  const Batch batch = *TrainingLoader({.batch_size = 1}).next();
  EXPECT_TRUE(batch.input_ids.is_cpu());
  EXPECT_EQ(batch.input_ids.is_pinned(), testing::device().is_cuda());
}

TEST(Batch, ATensorOfTwoFieldsStaysOne) {
  Batch batch;
  batch.input_ids = batch.labels = at::arange(6).view({2, 3});
  batch.attention_mask = batch.input_ids > 1;
  int calls = 0;
  const Batch mapped = batch.mapped([&](const at::Tensor& x) {
    ++calls;
    return x.clone();
  });
  EXPECT_EQ(calls, 2);
  EXPECT_TRUE(mapped.labels.is_same(mapped.input_ids));
  EXPECT_FALSE(mapped.input_ids.is_same(batch.input_ids));
  EXPECT_TRUE(at::equal(mapped.attention_mask, batch.attention_mask));
  EXPECT_FALSE(mapped.pixel_values.defined());

  const Batch sent = batch.to(testing::device());
  EXPECT_TRUE(sent.labels.is_same(sent.input_ids));
  EXPECT_EQ(sent.attention_mask.device().type(), testing::device().type());
}

TEST(BatchInOrder, AsksForConsecutiveSamplesWithoutAugmentation) {
  const Batch batch = batch_in_order(RecordingSource(), 3, 4, 11);
  EXPECT_EQ(column(batch, 0), (std::vector<int64_t>{3, 4, 5, 6}));
  EXPECT_EQ(column(batch, 1), (std::vector<int64_t>{3, 4, 5, 6}));
  EXPECT_EQ(column(batch, 2), (std::vector<int64_t>(4, 11)));
  EXPECT_EQ(column(batch, 4), (std::vector<int64_t>(4, 0)));
}

}  // namespace
}  // namespace quench
