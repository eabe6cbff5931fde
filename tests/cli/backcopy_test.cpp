// A small OPT on data.type: bigram_backcopy, from the command line.
#include <cmath>

#include "tests/cli/cli_train.h"

namespace quench {
namespace {

class CliBackcopy : public CliTrain {
 protected:
  CliBackcopy() { folder_.write("sinks.yaml", concat(kOpt, kRest)); }

  Outcome refused(const std::vector<std::string>& assignments) {
    std::vector<std::string> arguments = {"train", "sinks.yaml", "--output", "refused"};
    for (const std::string& assignment : assignments)
      arguments.insert(arguments.end(), {"--set", assignment});
    const Outcome outcome = quench(arguments);
    EXPECT_EQ(outcome.status, 2) << outcome.err;
    EXPECT_FALSE(exists("refused"));
    return outcome;
  }

  static constexpr const char* kOpt =
      "model: {type: opt, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 1,\n"
      "  ffn_dim: 32, max_position_embeddings: 24}\n";
  static constexpr const char* kRest =
      "data: {type: bigram_backcopy, max_seq_length: 24, validation_samples: 12}\n"
      "optimizer: {learning_rate: 0.01}\nschedule: {shape: constant}\n"
      "train: {steps: 20, batch_size: 4, log_every: 1, eval_every: 5, checkpoint_every: 10}\n"
      "eval: {batch_size: 8}\n"
      "ptq: {calibration: {batches: 2, batch_size: 4}, evaluation: {batch_size: 8}}\n";
};

TEST_F(CliBackcopy, TrainsAndEvaluates) {
  done({"train", "sinks.yaml", "--output", "run"});
  const auto logged = losses("run");
  ASSERT_EQ(logged.size(), 20u);
  EXPECT_NEAR(logged.front().second, std::log(35), 0.2);
  EXPECT_LT(logged.back().second, logged.front().second - 0.2);

  const Json result = json("run/eval.json");
  EXPECT_EQ(result.at("samples"), 12);
  EXPECT_EQ(result.at("tokens"), 12 * 23);
  const double least = result.at("optimal_loss");
  EXPECT_GT(result.at("loss").get<double>(), least);
  EXPECT_NE(folder_.read("run/log.txt").find(concat("can expect on this data is ", least)),
            std::string::npos);
  EXPECT_EQ(parse_json(done({"eval", "run", "--json"})), result);
  EXPECT_TRUE(std::isfinite(
      parse_json(done({"ptq", "run", "--json"})).at("quantized").at("loss").get<double>()));
}

// Hugging Face's default, 1, is an ordinary character here, whose embedding must learn.
TEST_F(CliBackcopy, NoCharacterIsThePadding) {
  done({"train", "sinks.yaml", "--output", "run", "--set", "train.steps=2"});
  const Json config = json(newest("run") + "/config.json");
  EXPECT_EQ(config.at("vocab_size"), 35);
  EXPECT_EQ(config.at("bos_token_id"), 34);
  EXPECT_TRUE(config.at("pad_token_id").is_null());
  EXPECT_TRUE(config.at("eos_token_id").is_null());
  const at::Tensor embedding = read_safetensors(folder_ / newest("run") + "/model.safetensors")
                                   .at("model.decoder.embed_tokens.weight");
  EXPECT_TRUE(embedding.abs().amax(1).gt(0).all().item<bool>());
}

TEST_F(CliBackcopy, AResumedRunIsTheSameBitForBit) {
  done({"train", "sinks.yaml", "--output", "whole"});
  done({"train", "sinks.yaml", "--output", "halves", "--set", "train.steps=7", "--set",
        "train.eval_every=0"});
  done({"train", "halves", "--resume", "--set", "train.steps=20"});
  expect_same_bytes(newest("whole"), newest("halves"));
  EXPECT_EQ(json("whole/eval.json"), json("halves/eval.json"));
  EXPECT_EQ(losses("whole"), losses("halves"));
}

TEST_F(CliBackcopy, ARunKeepsItsLanguage) {
  done({"train", "sinks.yaml", "--output", "run"});
  folder_.write("text", "another text, of which there is little");
  const Outcome other =
      quench({"train", "run", "--resume", "--set", "data.text=text", "--set", "train.steps=21"});
  EXPECT_NE(other.status, 0);
  const Outcome triggers =
      quench({"train", "run", "--resume", "--set", "data.triggers=5", "--set", "train.steps=21"});
  EXPECT_EQ(triggers.status, 2);
  EXPECT_NE(triggers.err.find("data.triggers was 3, now 5"), std::string::npos) << triggers.err;
}

TEST_F(CliBackcopy, OtherModelsAreRefusedWithTheReason) {
  for (const char* model :
       {"{type: bert, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 1}",
        "{type: vit, hidden_size: 16, num_hidden_layers: 1, num_attention_heads: 1}"}) {
    folder_.write("sinks.yaml", concat("model: ", model, "\n", kRest));
    EXPECT_NE(refused({}).err.find("sinks.yaml:2: data.type: bigram_backcopy is for causal "
                                   "language models (model.type opt)"),
              std::string::npos);
  }
}

TEST_F(CliBackcopy, MistakesAreNamed) {
  for (const auto& [assignment, message] :
       {std::pair{"data.text=none", "data.text: file 'none' does not exist"},
        {"data.triggers=34", "data.triggers: the text has 34 different characters"},
        {"data.max_seq_length=25", "data.max_seq_length: expected at most the model's 24"},
        {"model.vocab_size=30", "model.vocab_size: expected at least the data's 35, got 30"},
        {"train.steps=2 epochs",
         "train.steps: expected a number of steps, since the training data "
         "never ends, got \"2 epochs\""}}) {
    const Outcome outcome = refused({assignment});
    EXPECT_NE(outcome.err.find(message), std::string::npos) << outcome.err;
  }
}

TEST_F(CliBackcopy, DataCommandsKnowThatItNeverEnds) {
  EXPECT_EQ(done({"data", "prepare", "sinks.yaml"}),
            "train: endless samples\nvalidation: 12 samples\n");
  EXPECT_NE(done({"data", "show", "sinks.yaml"}).find("sample 1: 24 tokens"), std::string::npos);
}

}  // namespace
}  // namespace quench
