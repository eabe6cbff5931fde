#include "batches/loader.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <atomic>
#include <set>

#include "tests/io/temporary_folder.h"

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

TEST(Loader, AsksForTheBatchesOfTheStreamInOrder) {
  const LoaderOptions options{.batch_size = 4, .seed = 9};
  Loader loader(recording(), options);
  const Sampler sampler(10, 9, /*shuffle=*/true);
  for (int64_t step = 0; step < 8; ++step) {
    const Batch batch = loader.next();
    for (int64_t i = 0; i < 4; ++i) {
      const int64_t position = 4 * step + i;
      EXPECT_TRUE(at::equal(batch.input_ids[i], at::tensor({sampler.index(position), position,
                                                            int64_t{9}, step, int64_t{1}})));
    }
  }
}

TEST(Loader, ResumesWithTheBatchThatCameNext) {
  const LoaderOptions options{.batch_size = 3, .seed = 9};
  Loader whole(recording(), options), resumed(recording(), options, /*first=*/5);
  for (int i = 0; i < 5; ++i) whole.next();
  for (int i = 0; i < 5; ++i)
    EXPECT_TRUE(at::equal(whole.next().input_ids, resumed.next().input_ids));
}

TEST(Loader, RanksShareOneGlobalBatch) {
  LoaderOptions options{.batch_size = 4, .seed = 9};
  Loader one(recording(), options);
  options.batch_size = 2;
  options.world_size = 2;
  Loader first(recording(), options);
  options.rank = 1;
  Loader second(recording(), options);
  for (int step = 0; step < 4; ++step) {
    const at::Tensor both = at::cat({first.next().input_ids, second.next().input_ids});
    EXPECT_TRUE(at::equal(one.next().input_ids, both));
  }
}

TEST(Loader, ShufflesUnlessToldOtherwise) {
  const LoaderOptions in_order{.batch_size = 10, .seed = 9, .shuffle = false};
  Loader straight(recording(), in_order);
  const std::vector<int64_t> all = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  EXPECT_EQ(column(straight.next(), 0), all);
  EXPECT_EQ(column(straight.next(), 0), all);

  LoaderOptions shuffled = in_order;
  shuffled.shuffle = true;
  Loader loader(recording(), shuffled);
  const std::vector<int64_t> first = column(loader.next(), 0), second = column(loader.next(), 0);
  for (const auto& epoch : {first, second}) {
    EXPECT_NE(epoch, all);
    EXPECT_EQ(std::set<int64_t>(epoch.begin(), epoch.end()).size(), 10u);
  }
  EXPECT_NE(first, second);
}

TEST(Loader, HandsOverAnErrorAfterTheBatchesBeforeIt) {
  Loader loader(std::make_shared<RecordingSource>(2), {.batch_size = 1, .shuffle = false});
  EXPECT_EQ(column(loader.next(), 3)[0], 0);
  EXPECT_EQ(column(loader.next(), 3)[0], 1);
  EXPECT_EQ(error_of([&] { loader.next(); }), "cannot read sample 2");
  EXPECT_EQ(error_of([&] { loader.next(); }), "cannot read sample 2") << "and again";
}

TEST(Loader, StopsWhileItIsAhead) {
  const auto source = std::make_shared<RecordingSource>();
  { Loader loader(source, {.batch_size = 1}); }
  {
    Loader loader(source, {.batch_size = 1});
    loader.next();
  }
  EXPECT_LE(source->made, 10) << "it makes few batches ahead";
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
