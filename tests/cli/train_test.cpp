// quench train: runs.
#include <cmath>

#include "tests/cli/cli_train.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

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
  EXPECT_NE(other.err.find("model.pad_token_id: the config says 1, the data's vocabulary 0"),
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
  std::filesystem::remove_all(folder_ / "second");
  EXPECT_EQ(start_from("deep", "attention={softmax: {type: sink}, query_key_norm: layer}").status,
            0);
  done({"ptq", "second", "--set", "ptq.placement=full", "--json"});
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
