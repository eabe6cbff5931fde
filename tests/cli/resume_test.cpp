// quench train: a run folder's history, and signals.
#include <cstdlib>
#include <sstream>

#include "tests/cli/cli_train.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

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

TEST_F(CliTrain, AFinishedRunIsEvaluatedAnewWhereThatIsAskedForOtherwise) {
  done({"train", "tiny.yaml", "--output", "run"});
  const std::string before = folder_.read("run/eval.json");
  const Outcome other = quench({"train", "run", "--resume", "--set", "eval.max_batches=1"});
  EXPECT_EQ(other.status, 0) << other.err;
  EXPECT_NE(other.err.find("eval.max_batches was null, now 1"), std::string::npos) << other.err;
  EXPECT_EQ(json("run/eval.json").at("samples"), 4);
  EXPECT_EQ(losses("run").size(), 4u);
  done({"train", "run", "--resume", "--set", "eval.max_batches=null"});
  EXPECT_EQ(folder_.read("run/eval.json"), before);
}

// They are of other weights than those that the run goes on to.
TEST_F(CliTrain, ResultsOfAnEarlierEndAreSetAside) {
  done({"train", "tiny.yaml", "--output", "run", "--set", "schedule.shape=constant"});
  done({"ptq", "run"});
  EXPECT_EQ(json("run/ptq/w8a8-seed2000.json").at("checkpoint"), "step-00000004");
  const std::string eval = folder_.read("run/eval.json");
  done({"train", "run", "--resume", "--set", "train.steps=6"});
  EXPECT_EQ(folder_.read("run/results-of-step-00000004/eval.json"), eval);
  EXPECT_TRUE(exists("run/results-of-step-00000004/ptq/w8a8-seed2000.json"));
  EXPECT_FALSE(exists("run/ptq"));
  EXPECT_NE(folder_.read("run/eval.json"), eval);
}

TEST_F(CliTrain, WhatARunFolderHoldsBeforeARunIsKept) {
  const std::string own = folder_.read("tiny.yaml") + "# mine\n";
  folder_.write("own/config.yaml", own);
  folder_.write("own/metrics.jsonl", "{}\n");
  done({"train", "own"});
  EXPECT_EQ(folder_.read("own/earlier-config.yaml"), own);
  EXPECT_EQ(folder_.read("own/earlier-metrics.jsonl"), "{}\n");
}

TEST_F(CliTrain, WhatCannotBeComparedIsSaid) {
  done({"train", "tiny.yaml", "--output", "run"});
  std::filesystem::copy_file(folder_ / "train.safetensors", folder_ / "validation.safetensors",
                             std::filesystem::copy_options::overwrite_existing);
  const Outcome data = quench({"train", "run", "--resume"});
  EXPECT_EQ(data.status, 0);
  EXPECT_NE(data.err.find("the validation data is not what it was"), std::string::npos) << data.err;
  std::filesystem::remove(folder_ / "run/config.yaml");
  const Outcome config = quench({"train", "tiny.yaml", "--output", "run", "--resume"});
  EXPECT_EQ(config.status, 0);
  EXPECT_NE(config.err.find("config.yaml is missing"), std::string::npos) << config.err;
}

TEST_F(CliTrain, AnotherTokenizerIsNotResumed) {
  for (const char* name : {"a", "b"}) {
    std::string text;
    for (const std::string& line : sample_lines(300, static_cast<uint64_t>(name[0])))
      text += line + "\n";
    folder_.write(concat(name, ".txt"), text);
    done({"tokenizer", "train", concat(name, ".txt"), "--output", name, "--vocab-size", "64"});
  }
  folder_.write("words.yaml",
                "model: {type: bert, hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2, "
                "intermediate_size: 8}\n"
                "data: {type: text, files: [a.txt], max_seq_length: 8, cache: cache}\n"
                "tokenizer: {path: a}\ntrain: {steps: 2, batch_size: 2}\n"
                "eval: {max_batches: 1}\n");
  done({"train", "words.yaml", "--output", "run"});
  std::filesystem::rename(folder_ / "a", folder_ / "moved");
  done({"train", "run", "--resume", "--set", "train.steps=3", "--set", "tokenizer.path=moved"});
  const Outcome other =
      quench({"train", "run", "--resume", "--set", "train.steps=4", "--set", "tokenizer.path=b"});
  EXPECT_EQ(other.status, 2);
  EXPECT_NE(other.err.find("tokenizer.path: b is another tokenizer"), std::string::npos)
      << other.err;
}

TEST_F(CliTrain, WhatSequencesOfTextBeginWithIsKept) {
  std::string text;
  for (const std::string& line : sample_lines(300)) text += line + "\n";
  folder_.write("a.txt", text);
  folder_.write("begin.yaml",
                "model: {type: opt, hidden_size: 8, num_hidden_layers: 1, num_attention_heads: 2, "
                "ffn_dim: 8}\n"
                "data: {type: text, files: [a.txt], begin: bos, max_seq_length: 8}\n"
                "tokenizer: {vocab_size: 90}\nschedule: {shape: constant}\n"
                "train: {steps: 20, batch_size: 2, checkpoint_every: 0}\n");
  done({"train", "begin.yaml", "--output", "whole"});
  done({"train", "begin.yaml", "--output", "halves", "--set", "train.steps=7"});
  done({"train", "halves", "--resume", "--set", "train.steps=20"});
  expect_same_bytes(newest("whole"), newest("halves"));
  const Json result = json("whole/eval.json");
  EXPECT_EQ(json("halves/eval.json"), result);
  EXPECT_EQ(result.at("tokens"), 7 * result.at("samples").get<int64_t>());
  EXPECT_EQ(parse_json(done({"eval", "whole", "--json"})), result);
  const Outcome none = quench(
      {"train", "halves", "--resume", "--set", "train.steps=21", "--set", "data.begin=none"});
  EXPECT_EQ(none.status, 2);
  EXPECT_NE(none.err.find("data.begin was \"bos\", now \"none\""), std::string::npos) << none.err;
}

// What is mapped has pages that are gone.
TEST_F(CliTrain, AFileThatIsCutWhileItIsReadEndsTheRunInASentence) {
  const pid_t child =
      start({"train", "tiny.yaml", "--output", "run", "--set", "train.steps=10000000"});
  wait_until(child, [&] { return logged("run", "\n"); });
  std::filesystem::resize_file(folder_ / "train.safetensors", 0);
  const Outcome outcome = finish(child);
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("was cut by another program"), std::string::npos) << outcome.err;
}

// The first file that it opens must not become its standard output.
TEST_F(CliTrain, RunsWithoutStandardStreams) {
  const std::string command =
      concat("cd ", folder_ / "", " && OMP_NUM_THREADS=1 exec ", QUENCH_EXECUTABLE,
             " train tiny.yaml --output run <&- >&- 2>&-");
  ASSERT_EQ(std::system(command.c_str()), 0);
  std::istringstream lines(folder_.read("run/metrics.jsonl"));
  for (std::string line; std::getline(lines, line);)
    EXPECT_TRUE(parse_json(line, /*allow_exceptions=*/false).is_object()) << line;
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

// A step of many passes is left in the middle: it has changed nothing yet.
TEST_F(CliTrain, ASignalStopsALongStep) {
  const Outcome outcome =
      stopped_by(SIGTERM,
                 {"train", "tiny.yaml", "--output", "run", "--set", "train.checkpoint_every=0",
                  "--set", "train.gradient_accumulation_steps=1000000"},
                 [&] { return exists("run/metrics.jsonl"); });
  EXPECT_EQ(outcome.status, 143);
  EXPECT_EQ(newest("run"), "run/checkpoints/step-00000000");
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
  std::istringstream lines(folder_.read("straight/metrics.jsonl"));
  int evaluations = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("eval_loss") == std::string::npos) continue;
    EXPECT_TRUE(logged("run", line)) << line;
    ++evaluations;
  }
  EXPECT_EQ(evaluations, 2) << "of steps 3 and 4";
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

TEST_F(CliTrain, ResumesWithoutTheModelThatItStartedFrom) {
  done({"train", "tiny.yaml", "--output", "first"});
  done({"train", "tiny.yaml", "--output", "second", "--set", "train.initialize_from=first", "--set",
        "train.steps=2"});
  fs::remove_all(folder_ / "first");
  done({"train", "second", "--resume", "--set", "train.steps=4"});
  EXPECT_EQ(newest("second"), "second/checkpoints/step-00000004");
}

}  // namespace
}  // namespace quench
