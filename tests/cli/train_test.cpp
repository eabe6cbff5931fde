// quench train: runs, signals, resuming.
#include <ATen/ATen.h>
#include <cmath>

#include "tests/cli/cli_test.h"
#include "tests/data/sample_text.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

class CliTrain : public CliTest {
 protected:
  // Step -> line of metrics.jsonl, of training only.
  std::vector<std::pair<int64_t, double>> losses(const std::string& run) const {
    std::vector<std::pair<int64_t, double>> result;
    std::istringstream lines(folder_.read(run + "/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const Json json = parse_json(line);
      if (json.contains("loss")) result.emplace_back(json.at("step"), json.at("loss"));
    }
    return result;
  }
  void expect_same_bytes(const std::string& a, const std::string& b) const {
    for (const char* file :
         {"model.safetensors", "training.safetensors", "state.json", "config.json"}) {
      EXPECT_NE(folder_.read(a + "/" + file), "") << file;
      EXPECT_TRUE(folder_.read(a + "/" + file) == folder_.read(b + "/" + file)) << file;
    }
  }
  // Sends `signal` once `condition` holds.
  template <class Condition>
  Outcome stopped_by(int signal, const std::vector<std::string>& arguments,
                     const Condition& condition) {
    const pid_t child = start(arguments);
    wait_until(child, condition);
    ::kill(child, signal);
    return finish(child);
  }
  // A run that is long enough to be stopped on its way.
  Outcome stopped_by(int signal) {
    return stopped_by(signal,
                      {"train", "tiny.yaml", "--output", "run", "--set", "train.steps=1000000",
                       "--set", "train.checkpoint_every=0"},
                      [&] { return logged("run", "\n"); });
  }
  bool logged(const std::string& run, const std::string& text) const {
    return folder_.read(run + "/metrics.jsonl").find(text) != std::string::npos;
  }
  // An evaluation by single samples takes minutes.
  void make_validation_long() const {
    const at::Tensor ids = at::ones({1 << 18, kLength}, at::kLong);
    write_safetensors(folder_ / "validation.safetensors", {{"input_ids", ids}, {"labels", ids}});
  }
  // text.yaml on many megabytes of text.
  void write_long_text() const {
    std::string text, all;
    for (const std::string& line : sample_lines(20000)) text += line + "\n";
    for (int i = 0; i < 24; ++i) all += text;
    folder_.write("a.txt", all);
    folder_.write("text.yaml", "model: {type: bert}\ndata: {type: text, files: [a.txt]}\n");
  }
};

TEST_F(CliTrain, ARunFolderHoldsWhatItPromises) {
  EXPECT_EQ(done({"train", "tiny.yaml", "--output", "run"}), "");
  for (const char* name : {"config.yaml", "log.txt", "metrics.jsonl", "eval.json", "tb"})
    EXPECT_TRUE(exists(concat("run/", name))) << name;
  EXPECT_EQ(newest("run"), "run/checkpoints/step-00000004");
  for (const char* name :
       {"config.json", "model.safetensors", "training.safetensors", "state.json"})
    EXPECT_TRUE(exists(newest("run") + "/" + name)) << name;
  const auto logged = losses("run");
  ASSERT_EQ(logged.size(), 4u);
  EXPECT_EQ(logged[3].first, 4);
  EXPECT_NEAR(logged[0].second, std::log(kVocabulary), 0.5);
  EXPECT_EQ(done({"config", "check", "run"}), "run: valid\n");
}

TEST_F(CliTrain, OutliersAreLoggedUnlessToldOtherwise) {
  for (const char* outliers : {"true", "false"}) {
    done({"train", "tiny.yaml", "--output", outliers, "--set", "train.eval_every=2", "--set",
          concat("eval.outliers=", outliers)});
    std::istringstream lines(folder_.read(concat(outliers, "/metrics.jsonl")));
    int evaluations = 0;
    for (std::string line; std::getline(lines, line);) {
      const Json logged = parse_json(line);
      if (!logged.contains("eval_loss")) continue;
      ++evaluations;
      EXPECT_EQ(logged.contains("max_inf_norm"), std::string(outliers) == "true") << line;
    }
    EXPECT_EQ(evaluations, 2);
  }
}

TEST_F(CliTrain, LearnsWhatItIsShown) {
  done({"train", "tiny.yaml", "--output", "run", "--set", "train.steps=60", "--set",
        "optimizer.learning_rate=0.02"});
  const auto logged = losses("run");
  EXPECT_LT(logged.back().second, logged.front().second - 0.5);
}

TEST_F(CliTrain, TheSameConfigGivesTheSameBytes) {
  done({"train", "tiny.yaml", "--output", "a"});
  done({"train", "tiny.yaml", "--output", "b"});
  done({"train", "tiny.yaml", "--output", "c", "--set", "train.seed=2"});
  expect_same_bytes(newest("a"), newest("b"));
  EXPECT_FALSE(folder_.read(newest("a") + "/model.safetensors") ==
               folder_.read(newest("c") + "/model.safetensors"));
}

TEST_F(CliTrain, WithoutResumeAnExistingRunIsLeftAlone) {
  done({"train", "tiny.yaml", "--output", "run"});
  const std::string log = folder_.read("run/log.txt"), metrics = folder_.read("run/metrics.jsonl");
  const Outcome again = quench({"train", "tiny.yaml", "--output", "run"});
  EXPECT_EQ(again.status, 2);
  EXPECT_NE(again.err.find("--resume"), std::string::npos) << again.err;
  EXPECT_EQ(folder_.read("run/log.txt"), log);
  EXPECT_EQ(folder_.read("run/metrics.jsonl"), metrics);
}

TEST_F(CliTrain, ResumingAFinishedRunChangesNothing) {
  done({"train", "tiny.yaml", "--output", "run"});
  const std::string weights = folder_.read(newest("run") + "/model.safetensors"),
                    eval = folder_.read("run/eval.json");
  done({"train", "run", "--resume"});
  EXPECT_EQ(newest("run"), "run/checkpoints/step-00000004");
  EXPECT_TRUE(folder_.read(newest("run") + "/model.safetensors") == weights);
  EXPECT_EQ(folder_.read("run/eval.json"), eval);
  EXPECT_EQ(losses("run").size(), 4u);
}

TEST_F(CliTrain, AnotherModelIsNotResumed) {
  done({"train", "tiny.yaml", "--output", "run"});
  const Outcome outcome = quench(
      {"train", "tiny.yaml", "--output", "run", "--resume", "--set", "model.num_hidden_layers=1"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("model.num_hidden_layers was 2, now 1"), std::string::npos)
      << outcome.err;
}

TEST_F(CliTrain, ARefusedResumeChangesNothing) {
  done({"train", "tiny.yaml", "--output", "run"});
  const auto state = [&] {
    std::string all;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / "run"))
      all +=
          entry.path().string() +
          (entry.is_regular_file() ? folder_.read(fs::relative(entry.path(), folder_ / "").string())
                                   : "");
    return all;
  };
  const std::string before = state();
  for (const auto& [change, message] :
       {std::pair{"train.batch_size=2", "train.batch_size was 4, now 2"},
        {"train.seed=3", "train.seed was 1000, now 3"},
        {"train.steps=3", "has done 4 steps, and train.steps asks for 3"}}) {
    const Outcome outcome = quench({"train", "run", "--resume", "--set", change});
    EXPECT_EQ(outcome.status, 2);
    EXPECT_NE(outcome.err.find(message), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.err.find("done: "), std::string::npos) << outcome.err;
    EXPECT_TRUE(state() == before) << change;
  }
}

// By content: where it lies may change.
TEST_F(CliTrain, OtherDataIsNotResumed) {
  done({"train", "tiny.yaml", "--output", "run"});
  fs::copy_file(folder_ / "train.safetensors", folder_ / "moved.safetensors");
  const std::vector<std::string> resume = {"train",
                                           "run",
                                           "--resume",
                                           "--set",
                                           "train.steps=6",
                                           "--set",
                                           "data.train=moved.safetensors"};
  done(resume);
  fs::copy_file(folder_ / "validation.safetensors", folder_ / "moved.safetensors",
                fs::copy_options::overwrite_existing);
  const std::string metrics = folder_.read("run/metrics.jsonl");
  const Outcome outcome = quench(resume);
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("run was trained on other data"), std::string::npos) << outcome.err;
  EXPECT_EQ(folder_.read("run/metrics.jsonl"), metrics);
}

TEST_F(CliTrain, ResumesWithoutLatestAtTheNewestCompleteCheckpoint) {
  done({"train", "tiny.yaml", "--output", "straight", "--set", "train.steps=6", "--set",
        "schedule.shape=constant"});
  done({"train", "tiny.yaml", "--output", "run", "--set", "schedule.shape=constant"});
  fs::remove(folder_ / "run/checkpoints/latest");
  fs::resize_file(folder_ / "run/checkpoints/step-00000004/training.safetensors", 10);
  const Outcome outcome = quench({"train", "run", "--resume", "--set", "train.steps=6"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("taking step-00000002"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("resuming after step 2"), std::string::npos) << outcome.err;
  expect_same_bytes("straight/checkpoints/step-00000006", "run/checkpoints/step-00000006");
  EXPECT_EQ(losses("run"), losses("straight"));
}

TEST_F(CliTrain, ResumingWhereThereIsNoCheckpointSaysThatItStartsAnew) {
  const Outcome outcome = quench({"train", "tiny.yaml", "--output", "run", "--resume"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("run has no checkpoint: the run starts anew"), std::string::npos)
      << outcome.err;
}

// Going back and on again gives what an undisturbed run gives, and what was left is still there.
TEST_F(CliTrain, GoesBackToAnEarlierCheckpoint) {
  const auto back = [&](const std::string& run, const std::vector<std::string>& how) {
    done({"train", "tiny.yaml", "--output", run, "--set", "train.steps=8", "--set",
          "train.keep_checkpoints=0", "--set", "schedule.shape=constant"});
    if (how.back() == "--resume") folder_.write(run + "/checkpoints/latest", "step-00000002");
    std::vector<std::string> arguments = {"train",         run,     "--set",
                                          "train.steps=6", "--set", "train.keep_checkpoints=1"};
    arguments.insert(arguments.end(), how.begin(), how.end());
    done(arguments);
  };
  done({"train", "tiny.yaml", "--output", "straight", "--set", "train.steps=6", "--set",
        "schedule.shape=constant"});
  back("a", {"--resume"});
  back("b", {"--resume-from", "2"});
  for (const std::string run : {"a", "b"}) {
    expect_same_bytes("straight/checkpoints/step-00000006", run + "/checkpoints/step-00000006");
    EXPECT_EQ(newest(run), run + "/checkpoints/step-00000006");
    EXPECT_FALSE(exists(run + "/checkpoints/step-00000004")) << "keep_checkpoints";
    EXPECT_EQ(losses(run), losses("straight"));
    const std::string aside = run + "/checkpoints/set-aside-after-step-00000002";
    for (const char* kept : {"step-00000004", "step-00000006", "step-00000008", "metrics.jsonl"})
      EXPECT_TRUE(exists(aside + "/" + kept)) << kept;
  }
}

TEST_F(CliTrain, ASecondProcessIsRefusedByTheNameOfTheFirst) {
  const pid_t first = start({"train", "tiny.yaml", "--output", "run", "--set",
                             "train.steps=1000000", "--set", "train.checkpoint_every=0"});
  wait_until(first, [&] { return logged("run", "\n"); });
  const Outcome second = quench({"train", "tiny.yaml", "--output", "run", "--resume"});
  EXPECT_EQ(second.status, 2);
  EXPECT_NE(second.err.find(concat("run is in use by process ", first, " on ")), std::string::npos)
      << second.err;
  ::kill(first, SIGKILL);
  finish(first);
  done({"train", "tiny.yaml", "--output", "run", "--resume"});
  EXPECT_FALSE(exists("run/.lock"));
}

// Masks, dropout, data order, schedule and moments all have to continue where they stood.
TEST_F(CliTrain, ARunThatWasKilledResumesToTheLastBit) {
  std::string text;
  for (const std::string& line : sample_lines(400)) text += line + "\n";
  for (const char* name : {"a", "b", "c"}) folder_.write(concat("text/", name, ".txt"), text);
  folder_.write(
      "text.yaml",
      "model: {type: bert, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2,\n"
      "  intermediate_size: 32, max_position_embeddings: 16}\n"
      "attention: {softmax: {type: clipped, alpha: 4}, gate: {type: linear}}\n"
      "data: {type: text, files: ['text/*.txt'], validation_share: 0.3, max_seq_length: 16, "
      "document: line}\n"
      "tokenizer: {vocab_size: 100}\n"
      "optimizer: {learning_rate: 0.01}\n"
      "schedule: {shape: cosine, warmup_steps: 20}\n"
      "train: {steps: 250, batch_size: 4, gradient_accumulation_steps: 2, log_every: 5, "
      "checkpoint_every: 51}\n"
      "eval: {max_batches: 2}\n");
  done({"train", "text.yaml", "--output", "straight"});
  EXPECT_EQ(json("straight/checkpoints/step-00000250/config.json").at("hidden_dropout_prob"), 0.1);
  EXPECT_EQ(json("straight/checkpoints/step-00000250/config.json").at("vocab_size"), 100);
  EXPECT_TRUE(exists(newest("straight") + "/tokenizer.model"));

  const pid_t child = start({"train", "text.yaml", "--output", "killed"});
  // Killed after the checkpoint of step 51, between two lines of the curves, and with one that has
  // to be repeated.
  const std::string saved = "killed/checkpoints/step-00000051/state.json";
  wait_until(child, [&] { return logged("killed", "{\"step\":55,") && exists(saved); });
  ::kill(child, SIGKILL);
  EXPECT_EQ(finish(child).status, 137);
  EXPECT_NE(json(saved).at("loss_count"), 0);

  const Outcome resumed = quench({"train", "text.yaml", "--output", "killed", "--resume"});
  EXPECT_EQ(resumed.status, 0) << resumed.err;
  EXPECT_NE(resumed.err.find("resuming after step"), std::string::npos) << resumed.err;
  expect_same_bytes("straight/checkpoints/step-00000250", "killed/checkpoints/step-00000250");
  EXPECT_EQ(losses("killed"), losses("straight"));
  EXPECT_EQ(folder_.read("killed/eval.json"), folder_.read("straight/eval.json"));
}

TEST_F(CliTrain, SigtermEndsWith143AndACheckpoint) {
  const Outcome outcome = stopped_by(SIGTERM);
  EXPECT_EQ(outcome.status, 143) << outcome.err;
  EXPECT_NE(outcome.err.find("--resume"), std::string::npos) << outcome.err;
  const int64_t step = json(newest("run") + "/state.json").at("step");
  EXPECT_GE(step, 1);
  EXPECT_EQ(losses("run").back().first, step);
  EXPECT_FALSE(exists("run/eval.json"));
}

TEST_F(CliTrain, SigintEndsWith130AndACheckpoint) {
  const Outcome outcome = stopped_by(SIGINT);
  EXPECT_EQ(outcome.status, 130) << outcome.err;
  EXPECT_TRUE(exists(newest("run") + "/model.safetensors"));
}

TEST_F(CliTrain, ASignalStopsAnEvaluationOnTheWay) {
  make_validation_long();
  const std::vector<std::string> arguments = {"train", "tiny.yaml",
                                              "--set", "train.eval_every=3",
                                              "--set", "train.checkpoint_every=0",
                                              "--set", "eval.batch_size=1"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.begin(), arguments.begin(), arguments.end());
    return more;
  };
  const Outcome outcome =
      stopped_by(SIGINT, with({"--output", "run"}), [&] { return logged("run", "{\"step\":3,"); });
  EXPECT_EQ(outcome.status, 130) << outcome.err;
  EXPECT_NE(outcome.err.find("after step 3; a checkpoint was written"), std::string::npos);
  EXPECT_EQ(newest("run"), "run/checkpoints/step-00000003");

  done(with({"--output", "run", "--resume", "--set", "eval.max_batches=2"}));
  done(with({"--output", "straight", "--set", "eval.max_batches=2"}));
  expect_same_bytes("straight/checkpoints/step-00000004", "run/checkpoints/step-00000004");
}

TEST_F(CliTrain, ASignalStopsTheLastEvaluation) {
  make_validation_long();
  const std::string last = "run/checkpoints/step-00000004";
  const Outcome outcome =
      stopped_by(SIGTERM, {"train", "tiny.yaml", "--output", "run", "--set", "eval.batch_size=1"},
                 [&] { return newest("run") == last; });
  EXPECT_EQ(outcome.status, 143) << outcome.err;
  EXPECT_NE(outcome.err.find("--resume"), std::string::npos) << outcome.err;
  EXPECT_FALSE(exists("run/eval.json"));
  done({"train", "run", "--resume", "--set", "eval.max_batches=2"});
  EXPECT_TRUE(exists("run/eval.json"));
}

TEST_F(CliTrain, ASignalStopsTheTrainingOfATokenizer) {
  write_long_text();
  const Outcome outcome = stopped_by(SIGTERM, {"train", "text.yaml", "--output", "run"}, [&] {
    return folder_.read("stderr").find("training a unigram tokenizer") != std::string::npos;
  });
  EXPECT_EQ(outcome.status, 143) << outcome.err;
  EXPECT_TRUE(fs::is_empty(folder_ / "cache/tokenizers")) << "it went on";
  EXPECT_FALSE(exists("run"));
}

TEST_F(CliTrain, ASignalStopsTokenizingAndLeavesNothing) {
  write_long_text();
  std::string some;
  for (const std::string& line : sample_lines(500)) some += line + "\n";
  folder_.write("some.txt", some);
  done({"tokenizer", "train", "some.txt", "--output", "spm", "--vocab-size", "150"});
  const auto tokenizing = [&] {
    std::error_code none;
    const fs::directory_iterator entries(folder_ / "cache/tokens", none);
    return entries != fs::directory_iterator();
  };
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"train", "text.yaml", "--output", "run"},
        {"data", "prepare", "text.yaml"}}) {
    std::vector<std::string> arguments = command;
    arguments.insert(arguments.end(), {"--set", "tokenizer.path=spm"});
    const Outcome outcome = stopped_by(SIGINT, arguments, tokenizing);
    EXPECT_EQ(outcome.status, 130) << outcome.err;
    EXPECT_NE(outcome.err.find("stopped by a signal"), std::string::npos) << outcome.err;
    EXPECT_FALSE(tokenizing());
    EXPECT_FALSE(exists("run"));
  }
}

TEST_F(CliTrain, ANonFiniteLossEndsTheRun) {
  const Outcome outcome =
      quench({"train", "tiny.yaml", "--output", "run", "--set", "optimizer.learning_rate=1e30"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("of step 2 is not finite"), std::string::npos) << outcome.err;
  EXPECT_FALSE(exists("run/eval.json"));
  EXPECT_FALSE(exists("run/checkpoints/latest"));
}

// The first steps may be skipped while the loss scale comes down.
TEST_F(CliTrain, ANonFiniteLossEndsTheRunInHalfPrecision) {
  const Outcome outcome = quench({"train", "tiny.yaml", "--output", "run", "--set",
                                  "precision=fp16", "--set", "optimizer.learning_rate=1e30",
                                  "--set", "train.steps=40", "--set", "train.checkpoint_every=0"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("is not finite at loss scale "), std::string::npos) << outcome.err;
  EXPECT_FALSE(exists("run/eval.json"));
  EXPECT_FALSE(exists("run/checkpoints/latest"));
}

TEST_F(CliTrain, AModelThatOverflowsIsNotSaidToHaveNoOutliers) {
  const Outcome outcome = quench({"train", "tiny.yaml", "--output", "run", "--set",
                                  "optimizer.learning_rate=1e30", "--set", "train.steps=1"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("the evaluation's loss is"), std::string::npos) << outcome.err;
  const Json result = json("run/eval.json");
  EXPECT_TRUE(result.at("loss").is_null());
  EXPECT_TRUE(result.at("outliers").at("max_inf_norm").is_null());
  EXPECT_TRUE(result.at("outliers").at("reference").at("max_LN_out_inf_norm").is_null());

  const Outcome again = quench({"eval", "run", "--output", "eval.json"});
  EXPECT_EQ(again.status, 1);
  EXPECT_NE(again.err.find("the evaluation's loss is"), std::string::npos) << again.err;
  EXPECT_EQ(json("eval.json"), result);
}

TEST_F(CliTrain, ABrokenDataFileIsNamed) {
  folder_.write("train.safetensors", "{}");
  const Outcome outcome = quench({"train", "tiny.yaml", "--output", "run"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("train.safetensors"), std::string::npos) << outcome.err;
  EXPECT_FALSE(exists("run"));
}

TEST_F(CliTrain, StartsFromAnotherModelsWeights) {
  done({"train", "tiny.yaml", "--output", "first"});
  // A rate too small to move float32 weights.
  done({"train", "tiny.yaml", "--output", "second", "--set", "train.initialize_from=first", "--set",
        "train.seed=7", "--set", "train.steps=1", "--set", "optimizer.learning_rate=1e-30"});
  const auto first = read_safetensors(folder_ / newest("first") + "/model.safetensors");
  for (const auto& [name, value] :
       read_safetensors(folder_ / newest("second") + "/model.safetensors"))
    EXPECT_TRUE(at::allclose(value, first.at(name), 0, 1e-20)) << name;
}

TEST_F(CliTrain, TheTokenizerBelongsToTheModel) {
  std::string text;
  for (const std::string& line : sample_lines(300)) text += line + "\n";
  for (const char* name : {"a", "b"}) folder_.write(concat("text/", name, ".txt"), text);
  const std::string rest =
      "model: {type: opt, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2,\n"
      "  ffn_dim: 32, max_position_embeddings: 16}\n"
      "data: {type: text, files: ['text/*.txt'], validation_share: 0.5, max_seq_length: 16}\n"
      "train: {steps: 1, batch_size: 2}\neval: {max_batches: 1}\n";
  folder_.write("first.yaml", rest + "tokenizer: {vocab_size: 90}\n");
  folder_.write("second.yaml", rest);
  done({"train", "first.yaml", "--output", "first"});
  const std::vector<std::string> second = {"train",  "second.yaml", "--output",
                                           "second", "--set",       "train.initialize_from=first"};
  done(second);
  const Json config = json(newest("second") + "/config.json");
  EXPECT_EQ(config.at("vocab_size"), 90);
  EXPECT_EQ(config.at("pad_token_id"), 0) << "the special ids are the tokenizer's";
  EXPECT_EQ(config.at("eos_token_id"), 3);
  EXPECT_TRUE(folder_.read(newest("second") + "/tokenizer.model") ==
              folder_.read(newest("first") + "/tokenizer.model"));

  fs::remove_all(folder_ / "first");  // and goes with the run
  fs::remove_all(folder_ / "cache");
  done({"train", "second", "--resume", "--set", "train.steps=2"});

  const Outcome other =
      quench({"train", "first.yaml", "--output", "other", "--set", "model.pad_token_id=1"});
  EXPECT_EQ(other.status, 2);
  EXPECT_NE(other.err.find("model.pad_token_id: the config says 1, the tokenizer 0"),
            std::string::npos)
      << other.err;
  EXPECT_FALSE(exists("other"));
}

TEST_F(CliTrain, AnotherNumberOfClassesTakesAFreshHead) {
  const std::string images =
      "model: {type: vit, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 2,\n"
      "  intermediate_size: 32, image_size: 16, patch_size: 8}\n"
      "train: {steps: 1, batch_size: 2}\neval: {max_batches: 1}\n"
      "data: {type: synthetic, images: {image_size: 16}, samples: 8, validation_samples: 8, ";
  folder_.write("four.yaml", images + "classes: 4}\n");
  folder_.write("six.yaml", images + "classes: 6}\n");
  done({"train", "four.yaml", "--output", "four"});
  const std::vector<std::string> six = {"train", "six.yaml", "--output",
                                        "six",   "--set",    "train.initialize_from=four"};
  const Outcome refused = quench(six);
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("four has 4 classes, the data 6: train.fresh_head=true"),
            std::string::npos)
      << refused.err;
  std::vector<std::string> fresh = six;
  fresh.insert(fresh.end(), {"--set", "train.fresh_head=true"});
  done(fresh);
}

TEST_F(CliTrain, ResumesWithoutTheModelThatItStartedFrom) {
  done({"train", "tiny.yaml", "--output", "first"});
  done({"train", "tiny.yaml", "--output", "second", "--set", "train.initialize_from=first", "--set",
        "train.steps=2"});
  fs::remove_all(folder_ / "first");
  done({"train", "second", "--resume", "--set", "train.steps=4"});
  EXPECT_EQ(newest("second"), "second/checkpoints/step-00000004");
}

TEST_F(CliTrain, RefusesToStartFromAnotherKindOfModel) {
  done({"train", "tiny.yaml", "--output", "first"});
  folder_.write("opt.yaml",
                "model: {type: opt, vocab_size: 32, hidden_size: 16, num_hidden_layers: 2, "
                "num_attention_heads: 2, ffn_dim: 32, max_position_embeddings: 8}\n" +
                    kRest);
  const Outcome outcome =
      quench({"train", "opt.yaml", "--output", "second", "--set", "train.initialize_from=first"});
  EXPECT_NE(outcome.status, 0);
  EXPECT_NE(outcome.err.find("has no parameter of this model"), std::string::npos) << outcome.err;
}

TEST_F(CliTrain, OnlyAHeadAndGatesMayBeNew) {
  done({"train", "tiny.yaml", "--output", "first", "--set", "model.num_hidden_layers=1"});
  const auto start_from = [&](const std::string& first, const std::string& assignment) {
    return quench({"train", "tiny.yaml", "--output", "second", "--set",
                   "train.initialize_from=" + first, "--set", assignment});
  };
  const Outcome deeper = start_from("first", "train.steps=1");
  EXPECT_NE(deeper.status, 0);
  EXPECT_NE(deeper.err.find("first lacks bert.encoder.layer.1."), std::string::npos) << deeper.err;
  done({"train", "tiny.yaml", "--output", "deep"});
  const Outcome flatter = start_from("deep", "model.num_hidden_layers=1");
  EXPECT_NE(flatter.status, 0);
  EXPECT_NE(flatter.err.find("this model lacks what deep has: bert.encoder.layer.1."),
            std::string::npos)
      << flatter.err;
  EXPECT_EQ(start_from("deep", "attention.gate.type=linear").status, 0);
}

TEST_F(CliTrain, AHeadThatTheOtherModelLacksFollowsTheSeed) {
  done({"train", "tiny.yaml", "--output", "first"});
  const std::string file = folder_ / newest("first") + "/model.safetensors";
  auto body = read_safetensors(file);
  std::erase_if(body, [](const auto& entry) { return entry.first.starts_with("cls."); });
  write_safetensors(file, {body.begin(), body.end()});

  const auto trained = [&](const std::string& run, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {
        "train", "tiny.yaml",     "--output", run,
        "--set", "train.steps=1", "--set",    "optimizer.learning_rate=1e-30"};
    for (const std::string& assignment : more)
      arguments.insert(arguments.end(), {"--set", assignment});
    done(arguments);
    return read_safetensors(folder_ / newest(run) + "/model.safetensors");
  };
  const auto second = trained("second", {"train.seed=7", "train.initialize_from=first"});
  const auto other = trained("other", {"train.seed=8", "train.initialize_from=first"});
  const auto scratch = trained("scratch", {"train.seed=7"});
  for (const auto& [name, value] : second)
    EXPECT_TRUE(at::allclose(value, (body.contains(name) ? body : scratch).at(name), 0, 1e-20))
        << name;
  const std::string drawn = "cls.predictions.transform.dense.weight";
  EXPECT_FALSE(at::allclose(second.at(drawn), other.at(drawn)));
}

}  // namespace
}  // namespace quench
