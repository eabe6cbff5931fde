#include "train/run_folder.h"

#include "config/yaml.h"
#include "io/atomic_file.h"
#include "tests/io/temporary_folder.h"
#include "tests/models/tiny_bert.h"
#include "train/checkpoint.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

class RunFolderTest : public TemporaryFolder {
 protected:
  void save(int64_t step) {
    TrainingState state;
    state.step = step;
    save_checkpoint(run_, pretrained_, pretrained_.model->parameters.named_values(), nullptr, state,
                    /*keep=*/0);
  }
  std::vector<std::string> entries(const fs::path& folder) const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder))
      names.push_back(entry.path().filename());
    std::sort(names.begin(), names.end());
    return names;
  }

  const fs::path run_ = folder_ / "runs" / "a", checkpoints_ = run_ / "checkpoints";
  const Pretrained pretrained_ = tiny_bert();
};

TEST_F(RunFolderTest, HasOneWriterWhomTheNextOneNames) {
  {
    const RunFolder first(run_);
    const std::string refusal = error_of([&] { RunFolder second(run_); });
    EXPECT_NE(refusal.find(concat("is in use by process ", ::getpid())), std::string::npos)
        << refusal;
    write_file_atomically(run_ / "log.txt", "");
  }
  RunFolder third(run_);
  EXPECT_EQ(entries(run_), (std::vector<std::string>{".lock", "log.txt"}));
}

TEST_F(RunFolderTest, IsGoneAgainIfNothingWasWritten) {
  { const RunFolder run(run_); }
  EXPECT_FALSE(fs::exists(run_));
  fs::create_directories(run_);
  { const RunFolder run(run_); }
  EXPECT_TRUE(fs::exists(run_)) << "it was there before";
}

TEST_F(RunFolderTest, IsCleanedOfWhatAKillLeft) {
  for (const char* name : {"config.yaml.tmp-1-0", "checkpoints/step-00000001.tmp-1-0/model.tmp-1-3",
                           "ptq/a.json.tmp-999-2"})
    fs::create_directories(run_ / name);
  const RunFolder run(run_);
  EXPECT_TRUE(fs::is_empty(run_ / "checkpoints"));
  EXPECT_TRUE(fs::is_empty(run_ / "ptq"));
  EXPECT_FALSE(fs::exists(run_ / "config.yaml.tmp-1-0"));
}

TEST_F(RunFolderTest, BeginsWhereItIsTold) {
  const RunFolder run(run_);
  EXPECT_FALSE(run.start({}));
  EXPECT_FALSE(run.start({.resume = true, .step = {}}));
  EXPECT_NE(error_of([&] { run.start({.resume = false, .step = 3}); }).find("has no checkpoint"),
            std::string::npos);
  save(3);
  save(5);
  EXPECT_NE(error_of([&] { run.start({}); }).find("holds a run already"), std::string::npos);
  EXPECT_EQ(run.start({.resume = true, .step = {}})->step, 5);
  EXPECT_EQ(run.start({.resume = true, .step = 3})->step, 3);
  const std::string other = error_of([&] { run.start({.resume = false, .step = 4}); });
  EXPECT_NE(other.find("has checkpoints of the steps 3, 5"), std::string::npos) << other;
  fs::remove(checkpoints_ / "step-00000003" / "training.safetensors");
  const std::string torn = error_of([&] { run.start({.resume = false, .step = 3}); });
  EXPECT_NE(torn.find("training.safetensors is missing"), std::string::npos) << torn;
}

TEST_F(RunFolderTest, GoingBackSetsAsideWhatCameLater) {
  const RunFolder run(run_);
  for (const int64_t step : {10, 20, 30}) save(step);
  write_file_atomically(run_ / "metrics.jsonl", "{\"step\": 30}\n");
  write_file_atomically(run_ / "eval.json", "{}");
  run.roll_back_to(30);
  EXPECT_EQ(entries(checkpoints_).size(), 4u) << "nothing is later";
  run.roll_back_to(10);
  const fs::path aside = checkpoints_ / "set-aside-after-step-00000010";
  EXPECT_EQ(entries(checkpoints_),
            (std::vector<std::string>{"latest", aside.filename(), "step-00000010"}));
  EXPECT_EQ(entries(aside), (std::vector<std::string>{"eval.json", "metrics.jsonl", "step-00000020",
                                                      "step-00000030"}));
  EXPECT_EQ(model_folder((aside / "step-00000030").string()), aside / "step-00000030");
  EXPECT_EQ(read_file(checkpoints_ / "latest"), "step-00000010\n");
  EXPECT_TRUE(fs::exists(run_ / "metrics.jsonl")) << "its first lines are still this run's";
  save(20);
  run.roll_back_to(10);
  EXPECT_TRUE(fs::exists(checkpoints_ / "set-aside-after-step-00000010-2" / "step-00000020"));
}

// Key by key: what is registered as free, and everything else.
TEST_F(RunFolderTest, KnowsWhatAResumedRunMayChange) {
  const std::string tiny =
      "model: {type: bert, vocab_size: 32, hidden_size: 16, num_hidden_layers: 2, "
      "num_attention_heads: 2}\n"
      "data: {type: tensors, train: a, validation: b}\n";
  const RunFolder run(run_);
  const auto read = [&](const std::string& change) {
    config::Node node = config::parse(tiny, {"tiny.yaml", 1});
    if (!change.empty()) config::set(node, change);
    RunConfig config;
    config::read(node, config);
    return config;
  };
  EXPECT_EQ(error_of([&] { run.check_resumable(read("")); }), "no error") << "nothing to compare";
  write_file_atomically(run_ / "config.yaml", config::to_yaml(config::write(read(""))));
  for (const char* free :
       {"", "train.steps=7", "train.steps=2 epochs", "train.log_every=3", "train.eval_every=9",
        "train.checkpoint_every=1", "train.keep_checkpoints=0", "device=cpu", "output.folder=b",
        "output.tensorboard=false", "eval.batch_size=1", "ptq.weights.bits=4", "data.train=moved",
        "tokenizer.path=moved", "model.vocab_size=null"})
    EXPECT_EQ(error_of([&] { run.check_resumable(read(free)); }), "no error") << free;
  for (const auto& [change, message] :
       {std::pair{"train.batch_size=64", "train.batch_size was 32, now 64"},
        {"train.gradient_accumulation_steps=2", "train.gradient_accumulation_steps was 1, now 2"},
        {"train.seed=7", "train.seed was 1000, now 7"},
        {"train.shuffle=false", "train.shuffle was true, now false"},
        {"train.ema_decay=0.9", "train.ema_decay was null, now 0.9"},
        {"optimizer.learning_rate=0.5", "optimizer.learning_rate was 0.0001, now 0.5"},
        {"optimizer.betas=[0.5, 0.6]", "optimizer.betas was [0.9,0.999], now [0.5,0.6]"},
        {"optimizer.type=muon", "optimizer.type was \"adamw\", now \"muon\""},
        {"train.penalties=[{type: tweo, p: 3}]",
         "train.penalties was [], now "
         "[{\"type\":\"tweo\",\"weight\":0.01,\"p\":3.0,\"tau\":3.0,\"eps\":1e-06}]"},
        {"schedule.shape=cosine", "schedule.shape was \"linear\", now \"cosine\""},
        {"schedule.warmup_steps=1 epoch", "schedule.warmup_steps was 0, now \"1 epoch\""},
        {"precision=bf16", "precision was \"fp32\", now \"bf16\""},
        {"task.mlm_probability=0.5", "task.mlm_probability was 0.15, now 0.5"},
        {"attention.gate.type=linear", "attention.gate.type was \"none\", now \"linear\""},
        {"model.hidden_size=32", "model.hidden_size was 16, now 32"},
        {"data={type: cifar10, path: a}", "data.type was \"tensors\", now \"cifar10\""}}) {
    const std::string refusal = error_of([&] { run.check_resumable(read(change)); });
    EXPECT_TRUE(refusal.ends_with(std::string("keeps it: ") + message)) << refusal;
  }
  config::Node node = config::parse(tiny, {"tiny.yaml", 1});
  config::set(node, "train.seed=7");
  config::set(node, "train.batch_size=1");
  RunConfig two;
  config::read(node, two);
  const std::string refusal = error_of([&] { run.check_resumable(two); });
  EXPECT_NE(refusal.find("batch_size was 32, now 1; train.seed was 1000, now 7"), std::string::npos)
      << refusal;
}

}  // namespace
}  // namespace quench
