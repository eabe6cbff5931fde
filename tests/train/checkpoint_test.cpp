#include "train/checkpoint.h"

#include "io/atomic_file.h"
#include "io/safetensors.h"
#include "models/run_checkpoints.h"
#include "tests/io/temporary_folder.h"
#include "tests/models/tiny_bert.h"
#include "tests/support/golden.h"
#include "train/session.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// A tiny model in training: batch s is a function of s.
class Training {
 public:
  explicit Training(const RunConfig& config, Pretrained start = tiny_bert())
      : pretrained(std::move(start)), session(config, pretrained, testing::device()) {}

  void steps(int count) {
    for (int i = 0; i < count; ++i) session.step([&] { return tiny_batch(session.steps_done()); });
  }
  void save(const fs::path& run, int64_t keep = 2) {
    const TrainingSession::Averaged averaged(session);
    save_checkpoint(run, pretrained, pretrained.model->parameters.named_values(), nullptr,
                    session.state(), keep);
  }
  void load(const fs::path& run) {
    TrainingState state = session.state();
    load_checkpoint(latest_checkpoint(run, CheckpointUse::kTraining)->path, pretrained, state);
    session.resume(state);
  }
  std::map<std::string, at::Tensor> moments() const {
    std::map<std::string, at::Tensor> moments;
    for (const auto& [name, tensor] : const_cast<TrainingSession&>(session).optimizer().state())
      moments[name] = tensor.cpu().clone();
    return moments;
  }

  Pretrained pretrained;
  TrainingSession session;
};

class Checkpoint : public TemporaryFolder {
 protected:
  Checkpoint() {
    config_.train.steps = 10;
    config_.optimizer->learning_rate = 1e-2;
  }
  std::vector<std::string> entries() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(checkpoints_))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }
  // What resuming with `pretrained` from the checkpoint of a tiny BERT complains about, behind the
  // folder's name.
  std::string refusal(Pretrained pretrained) {
    Training(config_).save(folder_);
    Training other(config_, std::move(pretrained));
    const auto before = weights_of(other.pretrained);
    const std::string message = error_of([&] { other.load(folder_); });
    EXPECT_TRUE(equal(before, weights_of(other.pretrained)));
    const std::string start =
        "cannot resume from " + (checkpoints_ / "step-00000000").string() + ": ";
    return message.starts_with(start) ? message.substr(start.size()) : message;
  }

  RunConfig config_;
  const fs::path checkpoints_ = folder_ / "checkpoints";
};

TEST_F(Checkpoint, HoldsWeightsMomentsAndState) {
  Training first(config_);
  first.steps(3);
  TrainingState state = first.session.state();
  state.loss_scale = 1024;
  state.loss_scale_growth = 17;
  state.loss_sum = 0.1 + 0.2;
  state.loss_count = 2;
  save_checkpoint(folder_, first.pretrained, first.pretrained.model->parameters.named_values(),
                  nullptr, state, 2);
  Training second(config_, tiny_bert(/*seed=*/2));
  state = second.session.state();
  load_checkpoint(checkpoints_ / "step-00000003", second.pretrained, state);
  EXPECT_EQ(state.step, 3);
  EXPECT_EQ(state.loss_scale, 1024);
  EXPECT_EQ(state.loss_scale_growth, 17);
  EXPECT_EQ(state.loss_sum, 0.1 + 0.2);
  EXPECT_EQ(state.loss_count, 2);
  EXPECT_TRUE(equal(weights_of(first.pretrained), weights_of(second.pretrained)));
  EXPECT_TRUE(equal(first.moments(), second.moments()));
  EXPECT_TRUE(equal(weights_of(first.pretrained), weights_of(load_pretrained(folder_.string()))));
}

TEST_F(Checkpoint, WithoutLossesSinceTheLastLogLineIsResumed) {
  Training training(config_);
  training.save(folder_);
  write_file_atomically(checkpoints_ / "step-00000000" / "state.json",
                        "{\"step\": 0, \"loss_scale\": 2, \"loss_scale_growth\": 1}");
  TrainingState state = training.session.state();
  load_checkpoint(checkpoints_ / "step-00000000", training.pretrained, state);
  EXPECT_EQ(state.loss_scale, 2);
  EXPECT_EQ(state.loss_sum, 0);
  EXPECT_EQ(state.loss_count, 0);
}

TEST_F(Checkpoint, ResumedTrainingIsExactWithEveryOptimizer) {
  config_.train.gradient_accumulation_steps = 2;
  for (const auto& entry : optimizers().entries) {
    SCOPED_TRACE(entry.type);
    config_.optimizer = entry.make();
    const fs::path run = folder_ / entry.type;
    Training whole(config_), first(config_);
    whole.steps(5);
    first.steps(2);
    first.save(run);
    Training second(config_, tiny_bert(/*seed=*/2));
    second.load(run);
    second.steps(3);
    EXPECT_TRUE(equal(whole.moments(), second.moments()));
    EXPECT_TRUE(equal(weights_of(whole.pretrained), weights_of(second.pretrained)));
  }
}

// Where config.yaml is not there to tell.
TEST_F(Checkpoint, OfAnotherOptimizerIsRefused) {
  Training(config_).save(folder_);
  for (const auto& entry : optimizers().entries) {
    if (entry.type == "adamw") continue;
    config_.optimizer = entry.make();
    Training other(config_);
    const std::string refusal = error_of([&] { other.load(folder_); });
    EXPECT_NE(refusal.find("is of no use to the optimizer that the config asks for"),
              std::string::npos)
        << refusal;
  }
}

// The averages are what is evaluated and saved; training goes on from the weights.
TEST_F(Checkpoint, ResumedAverageIsExact) {
  config_.train.ema_decay = 0.9;
  Training whole(config_), first(config_);
  first.steps(2);
  first.save(folder_);
  whole.steps(2);
  {
    const TrainingSession::Averaged averaged(whole.session);
    EXPECT_TRUE(equal(weights_of(whole.pretrained), weights_of(load_pretrained(folder_.string()))));
  }
  Training second(config_, tiny_bert(/*seed=*/2));
  second.load(folder_);
  second.steps(3);
  whole.steps(3);
  EXPECT_TRUE(equal(weights_of(whole.pretrained), weights_of(second.pretrained)));
  const TrainingSession::Averaged a(whole.session), b(second.session);
  EXPECT_TRUE(equal(weights_of(whole.pretrained), weights_of(second.pretrained)));
}

TEST_F(Checkpoint, WithoutTheWeightsOfAnAverageIsRefused) {
  Training(config_).save(folder_);
  config_.train.ema_decay = 0.9;
  Training averaging(config_);
  EXPECT_NE(error_of([&] { averaging.load(folder_); }).find("no moving average"),
            std::string::npos);
}

TEST_F(Checkpoint, OfAnAverageIsRefusedWhereNoneIsKept) {
  config_.train.ema_decay = 0.9;
  Training(config_).save(folder_);
  config_.train.ema_decay.reset();
  Training plain(config_);
  EXPECT_NE(error_of([&] { plain.load(folder_); }).find("train.ema_decay"), std::string::npos);
}

TEST_F(Checkpoint, KeepsTheNewest) {
  Training training(config_);
  for (int i = 0; i < 4; ++i) {
    training.steps(1);
    training.save(folder_, /*keep=*/2);
  }
  EXPECT_EQ(entries(), (std::vector<std::string>{"latest", "step-00000003", "step-00000004"}));
  EXPECT_EQ(read_file(checkpoints_ / "latest"), "step-00000004\n");
  EXPECT_EQ(model_folder(folder_.string()), checkpoints_ / "step-00000004");
}

TEST_F(Checkpoint, KeepsAllIfAskedTo) {
  Training training(config_);
  for (int i = 0; i < 3; ++i) {
    training.save(folder_, /*keep=*/0);
    training.steps(1);
  }
  EXPECT_EQ(entries(), (std::vector<std::string>{"latest", "step-00000000", "step-00000001",
                                                 "step-00000002"}));
}

TEST_F(Checkpoint, ATornFolderCountsForNothing) {
  const std::string torn = "step-00000099.tmp-123-0";
  fs::create_directories(checkpoints_ / torn);
  write_file_atomically(checkpoints_ / torn / "config.json", "{");
  Training training(config_);
  training.steps(1);
  training.save(folder_, /*keep=*/1);
  training.steps(1);
  training.save(folder_, /*keep=*/1);
  EXPECT_EQ(entries(), (std::vector<std::string>{"latest", "step-00000002", torn}));
  Training resumed(config_);
  resumed.load(folder_);
  EXPECT_EQ(resumed.session.steps_done(), 2);
}

TEST_F(Checkpoint, AnotherModelIsRefusedByTheKeyThatDiffers) {
  const auto config = tiny_bert_config();
  config->hidden_size = 16;
  EXPECT_EQ(refusal(tiny_bert(1, config)),
            "is of another model: hidden_size is 8, the config says 16");
  const auto deeper = tiny_bert_config();
  deeper->num_hidden_layers = 2;
  EXPECT_EQ(refusal(tiny_bert(1, deeper)),
            "is of another model: num_hidden_layers is 1, the config says 2");
}

TEST_F(Checkpoint, AnotherAttentionIsRefused) {
  AttentionConfig clipped;
  clipped.softmax = std::make_shared<ClippedSoftmax>();
  const std::string message = refusal(tiny_bert(1, tiny_bert_config(), clipped));
  EXPECT_TRUE(message.starts_with("was made with another attention: ")) << message;
  EXPECT_NE(message.find("clipped"), std::string::npos) << message;
}

TEST_F(Checkpoint, NamesTheFileThatIsBroken) {
  Training training(config_);
  training.save(folder_);
  const fs::path folder = checkpoints_ / "step-00000000";
  const std::string state = read_file(folder / "state.json");
  const auto with_step = [&](const std::string& step) {
    return "{\"step\": " + step + ", " + state.substr(state.find("\"samples\""));
  };
  for (const std::string& broken :
       {std::string("{\"step\": 1"), std::string("{\"step\": 1}"), std::string("[]"),
        with_step("-4"), with_step("0.5"), with_step("\"0\""), with_step("1e30")}) {
    write_file_atomically(folder / "state.json", broken);
    const std::string message = error_of([&] { training.load(folder_); });
    EXPECT_NE(message.find((folder / "state.json").string()), std::string::npos)
        << broken << " -> " << message;
  }
  write_file_atomically(folder / "state.json", with_step("4"));
  EXPECT_NE(error_of([&] { training.load(folder_); }).find("expected in a folder step-00000004"),
            std::string::npos);
  write_file_atomically(folder / "state.json", state);
  for (const char* file : {"training.safetensors", "model.safetensors"}) {
    const std::string whole = read_file(folder / file);
    write_file_atomically(folder / file, whole.substr(0, whole.size() / 2));
    const std::string message = error_of([&] { training.load(folder_); });
    EXPECT_NE(message.find((folder / file).string()), std::string::npos) << message;
    write_file_atomically(folder / file, whole);
  }
  EXPECT_EQ(error_of([&] { training.load(folder_); }), "no error");
}

// A copy, a hand or a full disk may have left any of these.
TEST_F(Checkpoint, TheNewestCompleteOneIsFoundWithoutLatest) {
  Training training(config_);
  const auto found = [&] { return latest_checkpoint(folder_, CheckpointUse::kTraining); };
  EXPECT_FALSE(found());
  for (int i = 0; i < 3; ++i) {
    training.save(folder_, /*keep=*/0);
    training.steps(1);
  }
  for (const char* wrong : {"step-00000007\n", "", "step-00000001x", "\xff", "../other"}) {
    write_file_atomically(checkpoints_ / "latest", wrong);
    EXPECT_EQ(found()->step, 2) << wrong;
  }
  write_file_atomically(checkpoints_ / "latest", " step-00000001\r\n");
  EXPECT_EQ(found()->step, 1);
  fs::remove(checkpoints_ / "latest");
  fs::create_directory_symlink("step-00000000/", checkpoints_ / "latest");
  EXPECT_EQ(found()->step, 0) << "a link may name it, too";
  training.save(folder_, /*keep=*/0);
  EXPECT_EQ(read_file(checkpoints_ / "latest"), "step-00000003\n");
  fs::remove_all(checkpoints_ / "step-00000003");
  fs::remove(checkpoints_ / "latest");
  fs::remove(checkpoints_ / "step-00000002" / "training.safetensors");
  EXPECT_EQ(found()->step, 1);
  EXPECT_EQ(latest_checkpoint(folder_, CheckpointUse::kModel)->step, 2);
  fs::resize_file(checkpoints_ / "step-00000001" / "model.safetensors", 100);
  EXPECT_EQ(found()->step, 0);
  fs::remove(checkpoints_ / "step-00000000" / "state.json");
  EXPECT_NE(error_of([&] { found(); }).find("no complete checkpoint"), std::string::npos);
}

TEST_F(Checkpoint, OfManyStepsAreOrderedByNumber) {
  Training training(config_);
  TrainingState state = training.session.state();
  for (const int64_t step : {99999999, 100000000, 100000001}) {
    state.step = step;
    save_checkpoint(folder_, training.pretrained,
                    training.pretrained.model->parameters.named_values(), nullptr, state, 2);
  }
  EXPECT_EQ(entries(), (std::vector<std::string>{"latest", "step-100000000", "step-100000001"}));
}

TEST_F(Checkpoint, WhatIsNotCompleteIsNeitherCountedNorDeleted) {
  Training training(config_);
  fs::create_directories(checkpoints_ / "step-00000009");
  for (int i = 0; i < 3; ++i) {
    training.save(folder_, /*keep=*/1);
    training.steps(1);
  }
  EXPECT_EQ(entries(), (std::vector<std::string>{"latest", "step-00000002", "step-00000009"}));
}

// What the writer writes is the moment at which it was asked, whatever training does meanwhile.
TEST_F(Checkpoint, IsWrittenFromACopy) {
  Training training(config_);
  CheckpointWriter writer(folder_, training.pretrained, nullptr, /*keep=*/0);
  fs::create_directories(folder_);
  std::vector<std::map<std::string, at::Tensor>> weights;
  for (int i = 0; i < 3; ++i) {
    training.steps(1);
    weights.push_back(weights_of(training.pretrained));
    EXPECT_TRUE(writer.write(training.session.state()));
    training.steps(1);
  }
  writer.finish();
  for (int i = 0; i < 3; ++i) {
    const fs::path folder = checkpoints_ / step_name(2 * i + 1);
    EXPECT_TRUE(equal(weights_of(load_pretrained(folder.string())), weights[i])) << i;
  }
}

TEST_F(Checkpoint, AFailedWriteIsTold) {
  Training training(config_);
  CheckpointWriter writer(folder_, training.pretrained, nullptr, /*keep=*/0);
  fs::create_directories(checkpoints_);
  write_file_atomically(checkpoints_ / "step-00000000", "a file that is in the way");
  EXPECT_TRUE(writer.write(training.session.state()));
  EXPECT_NE(error_of([&] {
              for (;;) writer.poll();
            }).find("step-00000000"),
            std::string::npos);
  fs::remove(checkpoints_ / "step-00000000");
  EXPECT_TRUE(writer.write(training.session.state()));
  EXPECT_EQ(error_of([&] { writer.finish(); }), "no error");
}

TEST_F(Checkpoint, WithoutRoomIsLeftOut) {
  const SmallDisk disk(folder_);
  if (!disk.mounted()) GTEST_SKIP() << "a small file system can be mounted only by root";
  Training training(config_);
  CheckpointWriter writer(folder_, training.pretrained, nullptr, /*keep=*/0);
  EXPECT_FALSE(writer.write(training.session.state()));
  writer.finish();
  EXPECT_TRUE(fs::is_empty(folder_));
}

TEST_F(Checkpoint, LatestMovesOnlyToACompleteOne) {
  Training training(config_);
  training.save(folder_);
  training.steps(1);
  write_file_atomically(checkpoints_ / "step-00000001", "a file that is in the way");
  EXPECT_NE(error_of([&] { training.save(folder_); }), "no error");
  EXPECT_EQ(read_file(checkpoints_ / "latest"), "step-00000000\n");
}

TEST_F(Checkpoint, AFullDiskLeavesTheOldOne) {
  const SmallDisk disk(folder_);
  if (!disk.mounted()) GTEST_SKIP() << "a small file system can be mounted only by root";
  Training training(config_);
  training.steps(1);
  training.save(folder_);
  const auto weights = weights_of(training.pretrained);
  training.steps(1);
  const std::string message = error_of([&] { training.save(folder_); });
  EXPECT_NE(message.find("No space left on device"), std::string::npos) << message;
  EXPECT_NE(message.find("step-00000002"), std::string::npos) << message;
  EXPECT_EQ(entries(), (std::vector<std::string>{"latest", "step-00000001"}));
  Training resumed(config_);
  resumed.load(folder_);
  EXPECT_EQ(resumed.session.steps_done(), 1);
  EXPECT_TRUE(equal(weights_of(resumed.pretrained), weights));
}

}  // namespace
}  // namespace quench
