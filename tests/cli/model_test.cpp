// What takes a MODEL: forward, eval, ptq.
#include <ATen/ATen.h>
#include <sys/stat.h>

#include <cmath>
#include <set>
#include <thread>

#include "tests/cli/cli_test.h"

namespace quench {
namespace {

class CliModel : public CliTest {
 protected:
  CliModel() { done({"train", "tiny.yaml", "--output", "run"}); }

  std::map<std::string, at::Tensor> forward(const std::vector<std::string>& more,
                                            const std::string& model = "run") {
    std::vector<std::string> arguments = {
        "forward", model, "--inputs", "validation.safetensors", "--output", "out.safetensors"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    EXPECT_EQ(done(arguments), "");
    return read_safetensors(folder_ / "out.safetensors");
  }
  static std::set<std::string> keys(const Json& json) {
    std::set<std::string> keys;
    for (const auto& [key, unused] : json.items()) keys.insert(key);
    return keys;
  }
  static void expect_evaluation(const Json& json, const std::string& metric) {
    std::set<std::string> expected = {"loss", metric, "samples", "tokens", "outliers"};
    expected.insert(metric == "accuracy" ? "top5_accuracy" : "reference");
    EXPECT_EQ(keys(json), expected);
    for (const char* key : {"max_inf_norm", "avg_kurtosis", "max_kurtosis"})
      EXPECT_GT(json.at("outliers").at(key).get<double>(), 0) << key;
    EXPECT_TRUE(json.at("outliers").at("taps").at("layers.1.ffn.output").contains("kurtosis"));
    EXPECT_TRUE(json.at("outliers").at("reference").contains("avg_kurtosis"));
  }
};

TEST_F(CliModel, ForwardWritesEverythingThatItComputes) {
  const auto out = forward({"--dtype", "float64", "--gradients"});
  const auto weights = read_safetensors(folder_ / newest("run") + "/model.safetensors");
  std::set<std::string> expected = {"logits",           "loss",
                                    "hidden_states.0",  "hidden_states.1",
                                    "hidden_states.2",  "attention_probs.0",
                                    "attention_probs.1"};
  for (const auto& [name, value] : weights) expected.insert("grad." + name);
  std::set<std::string> names;
  for (const auto& [name, tensor] : out) {
    names.insert(name);
    EXPECT_EQ(tensor.scalar_type(), at::kDouble) << name;
  }
  EXPECT_EQ(names, expected);
  for (const auto& [name, value] : weights)
    EXPECT_EQ(out.at("grad." + name).sizes(), value.sizes()) << name;
  EXPECT_EQ(out.at("hidden_states.2").sizes(), at::IntArrayRef({6, kLength, 16}));
  EXPECT_EQ(out.at("attention_probs.1").sizes(), at::IntArrayRef({6, 2, kLength, kLength}));
  EXPECT_TRUE(
      at::allclose(out.at("attention_probs.0").sum(-1), at::ones({6, 2, kLength}, at::kDouble)));
}

TEST_F(CliModel, ForwardsLossAndGradientsBelongToItsLogits) {
  const auto out = forward({"--dtype", "float64", "--gradients"});
  const at::Tensor logits = out.at("logits").flatten(0, 1);
  const at::Tensor labels =
      read_safetensors(folder_ / "validation.safetensors").at("labels").flatten();
  const at::Tensor loss = at::cross_entropy_loss(logits, labels);
  EXPECT_NEAR(out.at("loss").item<double>(), loss.item<double>(), 1e-12);
  const at::Tensor where = (labels != -100).nonzero().squeeze(1);
  const at::Tensor error = at::softmax(logits.index_select(0, where), 1) -
                           at::one_hot(labels.index_select(0, where), kVocabulary);
  EXPECT_TRUE(at::allclose(out.at("grad.cls.predictions.bias"), error.mean(0), 1e-9, 1e-12));
}

TEST_F(CliModel, ForwardTakesACheckpointAndFloat32) {
  const auto wide = forward({"--dtype", "float64"}), narrow = forward({}, newest("run"));
  EXPECT_EQ(narrow.at("logits").scalar_type(), at::kFloat);
  EXPECT_EQ(narrow.size(), wide.size());
  EXPECT_TRUE(at::allclose(narrow.at("logits").to(at::kDouble), wide.at("logits"), 0, 1e-5));
}

TEST_F(CliModel, ForwardRefusesInputsThatDoNotFit) {
  const auto refusal = [&](const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
    write_safetensors(folder_ / "in.safetensors", tensors);
    const Outcome outcome =
        quench({"forward", "run", "--inputs", "in.safetensors", "--output", "none", "--gradients"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_FALSE(exists("none"));
    return outcome.err;
  };
  const at::Tensor ids = at::zeros({1, 4}, at::kLong);
  EXPECT_NE(refusal({{"input_ids", ids}}).find("--gradients needs labels"), std::string::npos);
  EXPECT_NE(refusal({{"labels", ids}}).find("expected either input_ids or pixel_values"),
            std::string::npos);
  EXPECT_NE(refusal({{"input_ids", ids}, {"label", ids}}).find("unexpected tensor 'label'"),
            std::string::npos);
}

TEST_F(CliModel, EvalMeasuresWhatTrainingMeasuredAtItsEnd) {
  const Json result = parse_json(done({"eval", "run", "--json"}));
  EXPECT_EQ(result, json("run/eval.json"));
  expect_evaluation(result, "perplexity");
  EXPECT_EQ(result.at("samples"), 6);
  EXPECT_NEAR(result.at("perplexity").get<double>(), std::exp(result.at("loss").get<double>()),
              1e-9);
}

TEST_F(CliModel, WithoutOutliersEvaluationsLeaveThemOut) {
  const auto without = [&](const char* command, const std::vector<std::string>& more) {
    std::vector<std::string> arguments = {command, "run", "--set", "eval.outliers=false"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return done(arguments);
  };
  const Json result = parse_json(without("eval", {"--json"}));
  EXPECT_EQ(keys(result),
            (std::set<std::string>{"loss", "perplexity", "reference", "samples", "tokens"}));
  const double loss = json("run/eval.json").at("loss");
  EXPECT_NEAR(result.at("loss").get<double>(), loss, 1e-6 * loss);
  EXPECT_NE(without("eval", {}).find(" - "), std::string::npos);

  const Json ptq = parse_json(without("ptq", {"--json"}));
  EXPECT_EQ(ptq.at("full_precision"), result);
  EXPECT_EQ(keys(ptq.at("quantized")), keys(result));
  EXPECT_NE(without("ptq", {}).find(" - "), std::string::npos);
}

// Before the work, not after it; and then nothing is lost.
TEST_F(CliModel, AnOutputThatCannotBeWrittenIsFoundFirst) {
  folder_.write("file", "");
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"eval", "run"},
        {"ptq", "run"},
        {"forward", "run", "--inputs", "validation.safetensors"},
        {"convert", "run"},
        {"train", "tiny.yaml"},
        {"sweep", "sweep.yaml"}}) {
    folder_.write("sweep.yaml", "base: tiny.yaml\nrows: [{name: a}]\n");
    std::vector<std::string> arguments = command;
    arguments.insert(arguments.end(), {"--output", "file/below/out"});
    const Outcome outcome = quench(arguments);
    EXPECT_NE(outcome.status, 0) << command[0];
    EXPECT_NE(outcome.err.find("file/below"), std::string::npos) << outcome.err;
    EXPECT_NE(outcome.err.find("Not a directory"), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.err.find("evaluate"), std::string::npos) << outcome.err;
    EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
}

TEST_F(CliModel, WritesIntoPipesLinksAndStdout) {
  const std::string expected = done({"eval", "run", "--json"});
  EXPECT_EQ(done({"eval", "run", "--json", "--output", "-"}), expected);
  EXPECT_EQ(done({"eval", "run", "--output", "/dev/stdout"}), expected);
  std::filesystem::create_symlink("target.json", folder_ / "link.json");
  done({"eval", "run", "--output", "link.json"});
  EXPECT_EQ(folder_.read("target.json"), expected);
  ASSERT_EQ(::mkfifo((folder_ / "pipe").c_str(), 0600), 0);
  std::string read;
  std::thread reader([&] { read = folder_.read("pipe"); });
  done({"eval", "run", "--output", "pipe"});
  reader.join();
  EXPECT_EQ(read, expected);
}

// As if each width had been asked for alone.
TEST_F(CliModel, PtqDrawsTheCurveOverBitsOfActivations) {
  const Json result = parse_json(done({"ptq", "run", "--json", "--bits", "8,4,3"}));
  ASSERT_EQ(result.at("bits").size(), 3u);
  for (const Json& point : result.at("bits")) {
    const std::string bits = std::to_string(point.at("bits").get<int64_t>());
    const Json alone =
        parse_json(done({"ptq", "run", "--json", "--set", "ptq.activations.bits=" + bits}));
    EXPECT_EQ(point.at("loss"), alone.at("quantized").at("loss")) << bits;
    EXPECT_EQ(point.at("perplexity"), alone.at("quantized").at("perplexity")) << bits;
  }
  EXPECT_EQ(result.at("quantized").at("loss"), result.at("bits")[0].at("loss"));
  EXPECT_EQ(keys(result.at("bits_within")), (std::set<std::string>{"1%", "10%"}));
  EXPECT_TRUE(exists("run/ptq/w8a8-bits-8-4-3-seed2000.json"));
  const std::string table = done({"ptq", "run", "--bits", "4"});
  EXPECT_NE(table.find("of full precision"), std::string::npos) << table;
  for (const char* bits : {"1", "17", "8,x", "8,8"}) {
    const Outcome outcome = quench({"ptq", "run", "--bits", bits});
    EXPECT_EQ(outcome.status, 2) << bits;
    EXPECT_NE(outcome.err.find("--bits"), std::string::npos) << outcome.err;
  }
}

TEST_F(CliModel, EvalLooksForSinksWhereAsked) {
  const Json result = parse_json(done({"eval", "run", "--json", "--set", "eval.sinks=true"}));
  const Json& outliers = result.at("outliers");
  EXPECT_EQ(outliers.at("sinks").at("sequences"), 6);
  EXPECT_TRUE(outliers.at("max_to_median").contains("layers.0.output"));
  EXPECT_TRUE(outliers.at("largest").at("layers.0.output").contains("tokens"));
  const double loss = json("run/eval.json").at("loss");
  EXPECT_NEAR(result.at("loss").get<double>(), loss, 1e-6 * loss);  // another path of attention
}

TEST_F(CliModel, AResultOfOtherSettingsKeepsItsName) {
  done({"ptq", "run"});
  const std::string first = folder_.read("run/ptq/w8a8-seed2000.json");
  done({"ptq", "run", "--set", "ptq.weights.estimator=mse"});
  EXPECT_EQ(folder_.read("run/ptq/w8a8-seed2000.json"), first);
  EXPECT_TRUE(exists("run/ptq/w8a8-seed2000-2.json"));
  done({"ptq", "run", "--set", "ptq.weights.estimator=mse"});
  done({"ptq", "run"});
  EXPECT_EQ(folder_.read("run/ptq/w8a8-seed2000.json"), first);
  EXPECT_FALSE(exists("run/ptq/w8a8-seed2000-3.json"));
}

TEST_F(CliModel, APipeIsNoTensors) {
  ASSERT_EQ(::mkfifo((folder_ / "pipe.safetensors").c_str(), 0600), 0);
  const Outcome outcome = quench({"eval", "run", "--data", "pipe.safetensors"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("pipe.safetensors: it is no file but a pipe"), std::string::npos)
      << outcome.err;
}

TEST_F(CliModel, WhatMemoryCannotHoldIsOneSentence) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "its allocator ends the process instead";
#endif
  const Outcome outcome = quench(
      {"train", "tiny.yaml", "--output", "big", "--set", "train.batch_size=9000000000000000"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("quench: memory does not suffice"), std::string::npos) << outcome.err;
  const Outcome layers =
      quench({"config", "check", "tiny.yaml", "--set", "model.num_hidden_layers=100000000"});
  EXPECT_EQ(layers.status, 2);
  EXPECT_NE(layers.err.find("num_hidden_layers"), std::string::npos) << layers.err;
}

TEST_F(CliModel, AFlagThatMakesNoSenseIsNamed) {
  for (const char* size : {"0", "-1", "many", "1.5", "99999999999999999999"}) {
    const Outcome outcome = quench({"eval", "run", "--batch-size", size});
    EXPECT_EQ(outcome.status, 2);
    EXPECT_NE(outcome.err.find("--batch-size"), std::string::npos) << outcome.err;
    EXPECT_NE(outcome.err.find(size), std::string::npos) << outcome.err;
  }
}

TEST_F(CliModel, EveryCommandReadsBatchesInTheSameWay) {
  auto broken = read_safetensors(folder_ / "validation.safetensors");
  broken["input_ids"] = broken["input_ids"].clone();
  broken["input_ids"][3][2] = 32;
  write_safetensors(folder_ / "broken.safetensors", {broken.begin(), broken.end()});
  for (const std::vector<std::string>& command :
       {std::vector<std::string>{"eval", "run", "--data", "broken.safetensors"},
        {"forward", "run", "--inputs", "broken.safetensors", "--output", "o"},
        {"ptq", "run", "--set", "data.train=broken.safetensors"},
        {"ptq", "run", "--set", "data.validation=broken.safetensors"},
        {"train", "tiny.yaml", "--output", "other", "--set", "data.train=broken.safetensors"}}) {
    const Outcome outcome = quench(command);
    EXPECT_EQ(outcome.status, 1) << outcome.err;
    EXPECT_NE(outcome.err.find("broken.safetensors: input_ids[3, 2]: expected 0 to 31 (the model's "
                               "vocab_size is 32), got 32"),
              std::string::npos)
        << outcome.err;
  }
}

TEST_F(CliModel, EvalTakesAFileOfBatches) {
  // One batch: the loss is the mean over its labels, as forward's is.
  const std::string checkpoint = newest("run");
  EXPECT_EQ(done({"eval", checkpoint, "--data", "validation.safetensors", "--batch-size", "6",
                  "--output", "eval.json", "--set", "device=cpu"})
                    .find("perplexity") == std::string::npos,
            false);
  EXPECT_NEAR(json("eval.json").at("loss").get<double>(), forward({}).at("loss").item<double>(),
              1e-5);
}

TEST_F(CliModel, AssignmentsSayWhatTheCheckpointDoesNot) {
  const std::vector<std::string> clipped = {"--set", "attention.softmax.type=clipped", "--set",
                                            "attention.softmax.gamma=-0.5"};
  const auto losses = [&](std::vector<std::string> command) {
    const Json plain = parse_json(done(command));
    command.insert(command.end(), clipped.begin(), clipped.end());
    const Json other = parse_json(done(command));
    const bool ptq = plain.contains("full_precision");
    return std::pair{(ptq ? plain.at("full_precision") : plain).at("loss").get<double>(),
                     (ptq ? other.at("full_precision") : other).at("loss").get<double>()};
  };
  const auto [plain, other] = losses({"eval", "run", "--json"});
  EXPECT_NE(plain, other);
  EXPECT_EQ(losses({"ptq", "run", "--json"}), (std::pair{plain, other}));
  EXPECT_FALSE(at::equal(forward({}).at("logits"), forward(clipped).at("logits")));
  const std::string section = "attention={softmax: {type: clipped, gamma: -0.5}}";
  EXPECT_EQ(parse_json(done({"eval", "run", "--json", "--set", section})).at("loss"), other);
  const Outcome outcome = quench({"eval", "run", "--set", "attention.softmax.gama=1"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("gama"), std::string::npos) << outcome.err;
}

TEST_F(CliModel, ASlashAtItsEndDoesNotHideTheRun) {
  EXPECT_EQ(parse_json(done({"eval", newest("run") + "/", "--json"})), json("run/eval.json"));
}

TEST_F(CliModel, TextNeedsTheModelsTokenizer) {
  folder_.write("text.txt", "One paragraph.\n\nAnother one, and a few words more.\n");
  folder_.write("text.yaml",
                "data: {type: text, files: [text.txt], validation_files: [text.txt], "
                "max_seq_length: 8}\n");
  const Outcome outcome = quench({"eval", "run", "--data", "text.yaml"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("has no tokenizer"), std::string::npos) << outcome.err;
  std::string words;
  for (int i = 0; i < 400; ++i) words += concat("word", i, " and ", i * i, "\n");
  folder_.write("words.txt", words);
  done({"tokenizer", "train", "words.txt", "--output", "spm", "--vocab-size", "32"});
  std::filesystem::copy(folder_ / "spm", folder_ / newest("run"));
  const Outcome refused =
      quench({"eval", "run", "--data", "text.yaml", "--set", "tokenizer.path=elsewhere"});
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("has its own"), std::string::npos) << refused.err;
}

TEST_F(CliModel, DataMustFitTheModel) {
  folder_.write("shapes.yaml", "data: {type: synthetic, images: {image_size: 8}}\n");
  const Outcome outcome = quench({"eval", "run", "--data", "shapes.yaml"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("expected text"), std::string::npos) << outcome.err;
  write_safetensors(folder_ / "images.safetensors", {{"pixel_values", at::zeros({2, 3, 8, 8})},
                                                     {"labels", at::zeros({2}, at::kLong)}});
  const auto error_of = [&](const std::vector<std::string>& arguments) {
    const Outcome ended = quench(arguments);
    EXPECT_NE(ended.status, 0);
    return ended.err;
  };
  EXPECT_NE(error_of({"eval", "run", "--data", "images.safetensors"}).find("expected text"),
            std::string::npos);
  EXPECT_NE(error_of({"forward", "run", "--inputs", "images.safetensors", "--output", "none"})
                .find("expected input_ids"),
            std::string::npos);
  EXPECT_NE(error_of({"eval", "run", "--set", "task.objective=clm"}).find("expected mlm"),
            std::string::npos);
  EXPECT_NE(error_of({"ptq", "run", "--set",
                      "ptq.evaluation.data={type: synthetic, images: {image_size: 8}}"})
                .find("ptq.evaluation.data: expected text"),
            std::string::npos);
}

TEST_F(CliModel, EvalNeedsData) {
  std::filesystem::rename(folder_ / newest("run"), folder_ / "alone");
  const Outcome outcome = quench({"eval", "alone"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("--data"), std::string::npos) << outcome.err;
  EXPECT_EQ(quench({"eval", "alone", "--data", "validation.safetensors"}).status, 0);
}

TEST_F(CliModel, PtqWritesItsResultIntoTheRun) {
  EXPECT_NE(done({"ptq", "run"}).find("w8a8"), std::string::npos);
  const Json result = json("run/ptq/w8a8-seed2000.json");
  EXPECT_EQ(keys(result), (std::set<std::string>{"checkpoint", "settings", "full_precision",
                                                 "quantized", "quantizers"}));
  expect_evaluation(result.at("full_precision"), "perplexity");
  expect_evaluation(result.at("quantized"), "perplexity");
  EXPECT_EQ(result.at("full_precision"), json("run/eval.json"));
  EXPECT_NE(result.at("quantized").at("loss"), result.at("full_precision").at("loss"));
  EXPECT_EQ(result.at("settings").at("weights").at("bits"), 8);

  std::set<std::string> weights, activations;
  for (const Json& quantizer : result.at("quantizers")) {
    for (const char* key : {"name", "kind", "bits", "symmetric", "signed", "scale", "zero_point"})
      EXPECT_TRUE(quantizer.contains(key)) << key << " " << dump(quantizer);
    (quantizer.at("kind") == "weight" ? weights : activations)
        .insert(quantizer.at("name").get<std::string>());
  }
  EXPECT_TRUE(weights.count("bert.encoder.layer.1.attention.self.key.weight"));
  EXPECT_TRUE(activations.count("layers.1.ffn.output"));
}

TEST_F(CliModel, PtqIsAFunctionOfItsSettings) {
  const std::string first =
      done({"ptq", "run", "--json", "--output", "a.json", "--set", "ptq.weights.bits=4"});
  EXPECT_EQ(first, folder_.read("a.json"));
  EXPECT_EQ(done({"ptq", "run", "--json", "--output", "b.json", "--set", "ptq.weights.bits=4"}),
            first);
  const Json other = parse_json(
      done({"ptq", "run", "--json", "--set", "ptq.weights.bits=4", "--set", "ptq.seed=1"}));
  EXPECT_NE(other.at("quantized").at("loss"), parse_json(first).at("quantized").at("loss"));
  EXPECT_TRUE(exists("run/ptq/w4a8-seed1.json"));
}

TEST_F(CliModel, PtqTakesAConfigAndRefusesOverridesOfNothing) {
  folder_.write("ptq.yaml",
                "ptq: {overrides: [{match: 'layers.0.*', enabled: false}, {match: '*.ffn.output', "
                "bits: 16}]}\n");
  const Json result = parse_json(done({"ptq", "run", "--config", "ptq.yaml", "--json"}));
  int wide = 0;
  for (const Json& quantizer : result.at("quantizers")) {
    const std::string name = quantizer.at("name");
    EXPECT_TRUE(!name.starts_with("layers.0.") || name.ends_with(".ffn.output")) << name;
    wide += quantizer.at("bits") == 16;
  }
  EXPECT_EQ(wide, 1);
  folder_.write("ptq.yaml", "ptq: {overrides: [{match: 'layer.0.*', enabled: false}]}\n");
  EXPECT_NE(quench({"ptq", "run", "--config", "ptq.yaml"}).err.find("matches no quantizer"),
            std::string::npos);
  folder_.write("ptq.yaml", "ptq: {overrides: [{match: 'layer.0.*', bits: 4}]}\n");
  const Outcome outcome = quench({"ptq", "run", "--config", "ptq.yaml", "--output", "none.json"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("'layer.0.*' matches no quantizer"), std::string::npos) << outcome.err;
  EXPECT_FALSE(exists("none.json"));
}

TEST_F(CliModel, ADamagedWeightsFileIsNamed) {
  const std::string file = newest("run") + "/model.safetensors", whole = folder_.read(file);
  std::string flipped = whole;
  flipped[20] ^= 1;
  for (const std::string& damaged : {whole.substr(0, whole.size() / 2), flipped, whole + "x"}) {
    folder_.write(file, damaged);
    const Outcome outcome = quench({"eval", "run"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_NE(outcome.err.find("model.safetensors"), std::string::npos) << outcome.err;
    EXPECT_EQ(outcome.out, "");
  }
}

TEST_F(CliTest, OptAndVitGoTheSameWay) {
  folder_.write(
      "opt.yaml",
      "model: {type: opt, vocab_size: 32, hidden_size: 16, ffn_dim: 32, num_hidden_layers: 2,\n"
      "  num_attention_heads: 2, max_position_embeddings: 8}\n" +
          kRest);
  folder_.write("vit.yaml",
                "model: {type: vit, num_labels: 7, hidden_size: 16, intermediate_size: 32, "
                "num_hidden_layers: 2,\n"
                "  num_attention_heads: 2, image_size: 8, patch_size: 4, num_channels: 1, "
                "drop_path_rate: 0.1}\n"
                "data: {type: tensors, train: images.safetensors, validation: images.safetensors}\n"
                "train: {steps: 3, batch_size: 4}\n"
                "ptq: {calibration: {batches: 2, batch_size: 4}}\n");
  const at::Tensor labels = at::arange(14, at::kLong).remainder(7);
  write_safetensors(folder_ / "images.safetensors",
                    {{"pixel_values", at::sin(at::arange(14 * 64, at::kFloat)).view({14, 1, 8, 8})},
                     {"labels", labels}});
  for (const auto& [name, metric] : {std::pair{"opt", "perplexity"}, {"vit", "accuracy"}}) {
    done({"train", concat(name, ".yaml"), "--output", name});
    const Json result = parse_json(done({"ptq", name, "--json"}));
    EXPECT_EQ(result.at("full_precision"), json(concat(name, "/eval.json")));
    EXPECT_TRUE(result.at("quantized").contains(metric)) << name;
    EXPECT_GT(result.at("quantized").at("outliers").at("max_inf_norm").get<double>(), 0) << name;
  }
  EXPECT_EQ(json("vit/eval.json").at("samples"), 14);
}

TEST_F(CliTest, AnImageModelTakesItsClassesAndPreprocessingAlong) {
  folder_.write(
      "vit.yaml",
      "model: {type: vit, hidden_size: 16, intermediate_size: 32, num_hidden_layers: 1,\n"
      "  num_attention_heads: 2, image_size: 8, patch_size: 4}\n"
      "data: {type: synthetic, samples: 8, validation_samples: 4, classes: 3, images:\n"
      "  {image_size: 8, crop_pct: 0.8, interpolation: bilinear, mean: [0.1, 0.2, 0.3]}}\n"
      "train: {steps: 1, batch_size: 4}\n");
  done({"train", "vit.yaml", "--output", "vit"});
  done({"convert", "vit", "--output", "converted"});
  for (const std::string& folder : {newest("vit"), std::string("converted")}) {
    const Json config = json(folder + "/config.json");
    EXPECT_EQ(config.at("id2label").size(), 3u);
    const std::string label = config.at("id2label").at("1");
    EXPECT_FALSE(label.starts_with("LABEL"));
    EXPECT_EQ(config.at("label2id").at(label), 1);
    const Json processor = json(folder + "/preprocessor_config.json");
    EXPECT_EQ(processor.at("size").at("shortest_edge"), 10);
    EXPECT_EQ(processor.at("crop_size").at("height"), 8);
    EXPECT_EQ(processor.at("resample"), 2);
    EXPECT_EQ(processor.at("image_mean"), (Json{0.1, 0.2, 0.3}));
  }
  // The same classes in another order.
  Json config = json("converted/config.json");
  std::swap(config.at("id2label").at("0"), config.at("id2label").at("2"));
  folder_.write("converted/config.json", dump(config));
  for (const auto& [command, flag] : {std::pair{"eval", "--data"}, {"ptq", "--config"}}) {
    const Outcome outcome = quench({command, "converted", flag, "vit.yaml"});
    EXPECT_EQ(outcome.status, 2);
    EXPECT_NE(outcome.err.find("class 2 of the model"), std::string::npos) << outcome.err;
  }
  folder_.write(newest("vit") + "/config.json", dump(config));
  const Outcome outcome = quench({"train", "vit.yaml", "--output", "vit", "--resume"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("cannot resume"), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("class 2 of the model"), std::string::npos) << outcome.err;
}

}  // namespace
}  // namespace quench
