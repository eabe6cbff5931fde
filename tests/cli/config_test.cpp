// Usage, configs, and what is said of their mistakes.
#include "tests/cli/cli_test.h"

namespace quench {
namespace {

class CliConfig : public CliTest {
 protected:
  // `quench train tiny.yaml more...` is refused, says `expected` and creates nothing.
  void expect_refused(const std::vector<std::string>& more,
                      const std::vector<std::string>& expected) {
    std::vector<std::string> arguments = {"train", "tiny.yaml", "--output", "run"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Outcome outcome = quench(arguments);
    EXPECT_EQ(outcome.status, 2) << outcome.err;
    EXPECT_EQ(outcome.out, "");
    for (const std::string& part : expected)
      EXPECT_NE(outcome.err.find(part), std::string::npos) << part << "\n" << outcome.err;
    EXPECT_FALSE(exists("run"));
    EXPECT_FALSE(exists("runs"));
    EXPECT_FALSE(exists("cache"));
  }
};

TEST_F(CliConfig, UsageErrorsEndWithStatus2) {
  EXPECT_EQ(quench({}).status, 2);
  EXPECT_EQ(quench({"trian"}).status, 2);
  EXPECT_EQ(quench({"train"}).status, 2);
  EXPECT_EQ(quench({"train", "tiny.yaml", "--no-such-flag"}).status, 2);
  EXPECT_EQ(quench({"forward", "run", "--inputs", "a", "--output", "b", "--dtype", "int8"}).status,
            2);
  const Outcome no_file = quench({"train", "no-such.yaml"});
  EXPECT_EQ(no_file.status, 2);
  EXPECT_NE(no_file.err.find("no-such.yaml"), std::string::npos) << no_file.err;
  const Outcome no_model = quench({"eval", "no-such-run"});
  EXPECT_EQ(no_model.status, 2);
  EXPECT_NE(no_model.err.find("'no-such-run' is no MODEL"), std::string::npos) << no_model.err;
  EXPECT_FALSE(exists("runs"));
}

TEST_F(CliConfig, HelpAndVersionGoToStdout) {
  EXPECT_NE(done({"--help"}).find("train"), std::string::npos);
  EXPECT_NE(done({"train", "--help"}).find("--resume"), std::string::npos);
  EXPECT_EQ(done({"--version"}).substr(0, 7), "quench ");
  EXPECT_TRUE(parse_json(done({"doctor", "--json"})).contains("libtorch"));
}

TEST_F(CliConfig, ThreadsDoNotSpinForLongUnlessTheUserSaysSo) {
  const auto threads_wait = [&] {
    return parse_json(done({"doctor", "--json"})).at("threads_wait");
  };
  EXPECT_EQ(threads_wait(), "OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=2000");
  for (const char* said : {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"}) {
    ::setenv(said, "3", 1);
    EXPECT_EQ(threads_wait(), concat(said, "=3"));
    ::unsetenv(said);
  }
}

TEST_F(CliConfig, AnUnknownKeyIsNamedWithItsPlaceAndItsNeighbour) {
  folder_.write("tiny.yaml", "model:\n  type: bert\n  hiden_size: 16\n" + kRest);
  expect_refused({}, {"tiny.yaml:3", "model.hiden_size", "'hidden_size'"});
}

TEST_F(CliConfig, AnUnknownKeyOfAnAssignmentToo) {
  expect_refused({"--set", "train.stepz=3"}, {"--set", "train.stepz", "'steps'"});
}

TEST_F(CliConfig, AScheduleHonoursEveryKeyOrRefusesIt) {
  expect_refused({"--set", "schedule.warmup_steps=5"},
                 {"schedule.warmup_steps", "at most the 4 of train.steps", "got 5"});
  expect_refused({"--set", "schedule.warmup_steps=4", "--set", "schedule.steps=3"},
                 {"schedule.warmup_steps", "at most the 3 of schedule.steps", "got 4"});
  for (const char* key : {"final_lr_fraction=0.5", "steps=9"})
    expect_refused({"--set", "schedule.shape=constant", "--set", concat("schedule.", key)},
                   {"schedule.", "has no meaning with shape constant"});
}

TEST_F(CliConfig, HeadsMustDivideTheHiddenSize) {
  expect_refused({"--set", "model.num_attention_heads=3"},
                 {"model.num_attention_heads", "hidden_size"});
}

TEST_F(CliConfig, ARateMustBePositive) {
  expect_refused({"--set", "optimizer.learning_rate=-0.1"},
                 {"optimizer.learning_rate", "expected a number > 0, got -0.1"});
}

TEST_F(CliConfig, AKeyOfEarlierVersionsSaysWhatToWriteInstead) {
  expect_refused(
      {"--set", "train.activation_penalty=0.5"},
      {"train.activation_penalty: write penalties: [{type: activation_norm, weight: ", "got 0.5"});
  done({"config", "check", "tiny.yaml", "--set", "train.activation_penalty=0.0"});
  expect_refused({"--set", "train.penalties=[{type: twoe}]"},
                 {"train.penalties.0.type: expected one of activation_norm, tweo, kurtosis, got ",
                  "did you mean 'tweo'?"});
}

TEST_F(CliConfig, ATypeMustBeKnown) {
  expect_refused({"--set", "attention.softmax.type=cliped"},
                 {"attention.softmax.type", "clipped", "softmax"});
  expect_refused({"--set", "model.type=gpt"}, {"model.type", "bert", "opt", "vit"});
}

TEST_F(CliConfig, DataFilesMustExist) {
  expect_refused({"--set", "data.train=elsewhere.safetensors"},
                 {"--set data.train: data.train: file 'elsewhere.safetensors' does not exist"});
  folder_.write("tiny.yaml", kModel + "data:\n  type: text\n  files: [nope/*.txt]\n");
  expect_refused({}, {"tiny.yaml:11: data.files: ", "nope/*.txt"});
  folder_.write("tiny.yaml", kModel + kRest + "tokenizer: {path: nowhere}\n");
  expect_refused({}, {"tiny.yaml:14: tokenizer.path: 'nowhere' does not exist"});
}

TEST_F(CliConfig, ModelAndDataMustBeGiven) {
  folder_.write("tiny.yaml", kRest);
  expect_refused({}, {"tiny.yaml: model: expected a section"});
  folder_.write("tiny.yaml", kModel);
  expect_refused({}, {"tiny.yaml: data: expected a section"});
}

TEST_F(CliConfig, SequencesMustFitTheModel) {
  const Outcome tensors =
      quench({"train", "tiny.yaml", "--output", "run", "--set", "model.max_position_embeddings=4"});
  EXPECT_NE(tensors.err.find("train.safetensors: input_ids: expected at most the model's 4 "
                             "positions (max_position_embeddings), got sequences of 8"),
            std::string::npos)
      << tensors.err;
  folder_.write("a.txt", "A text.");
  folder_.write("tiny.yaml",
                kModel + "data: {type: text, files: [a.txt], validation_files: [a.txt]}\n");
  expect_refused({}, {"tiny.yaml:9: data.max_seq_length", "8 positions, got 128"});
  EXPECT_FALSE(exists("cache"));
}

TEST_F(CliConfig, MixedImagesComeInPairs) {
  folder_.write("tiny.yaml",
                "model: {type: vit, image_size: 16, patch_size: 8}\n"
                "data: {type: synthetic, images: {image_size: 16}}\n");
  expect_refused({"--set", "train.batch_size=5"},
                 {"train.batch_size: expected an even number", "data.images.mixup_alpha", "got 5"});
}

TEST_F(CliConfig, AModelOfImagesTakesNoText) {
  folder_.write("tiny.yaml", "model: {type: vit, num_labels: 3}\n" + kRest);
  expect_refused({}, {"data: expected images for model.type vit, got text"});
  folder_.write("a.txt", "A text.");
  folder_.write("tiny.yaml", "model: {type: vit}\ndata: {type: text, files: [a.txt, tiny.yaml]}\n");
  expect_refused({}, {"tiny.yaml:2: data: expected images for model.type vit, got text"});
}

TEST_F(CliConfig, BrokenYamlIsNamedWithItsLine) {
  folder_.write("tiny.yaml", "model: {type: bert\ndata: 3\n");
  expect_refused({}, {"tiny.yaml:2"});
}

TEST_F(CliConfig, ShowPrintsWhatCheckAcceptsAndShowRepeats) {
  folder_.write("small.yaml",
                "extends: tiny.yaml\nmodel: {hidden_size: 32}\nattention: {softmax: {type: "
                "clipped, alpha: 4}}\n");
  const std::string shown = done({"config", "show", "small.yaml", "--set", "train.seed=5"});
  folder_.write("resolved.yaml", shown);
  EXPECT_EQ(done({"config", "check", "resolved.yaml"}), "resolved.yaml: valid\n");
  EXPECT_EQ(done({"config", "show", "resolved.yaml"}), shown);

  const Json resolved = parse_json(done({"config", "show", "resolved.yaml", "--json"}));
  EXPECT_EQ(resolved.at("model").at("hidden_size"), 32);
  EXPECT_EQ(resolved.at("model").at("intermediate_size"), 32);
  EXPECT_EQ(resolved.at("attention").at("softmax").at("alpha"), 4);
  EXPECT_EQ(resolved.at("train").at("seed"), 5);
  EXPECT_FALSE(exists("cache"));
  EXPECT_EQ(quench({"config", "check", "small.yaml", "--set", "train.steps=0"}).status, 2);
}

TEST_F(CliConfig, SchemaIsJson) {
  const Json schema = parse_json(done({"config", "schema"}));
  for (const char* section : {"model", "attention", "data", "tokenizer", "task", "optimizer",
                              "schedule", "train", "precision", "eval", "ptq", "output"})
    EXPECT_TRUE(schema.at("properties").contains(section)) << section;
}

}  // namespace
}  // namespace quench
