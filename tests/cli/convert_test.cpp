// quench convert: Hugging Face folders in, ours out.
#include "models/pretrained.h"
#include "tests/cli/cli_test.h"
#include "tests/io/torch_file.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

const Json kBert = {
    {"model_type", "bert"},        {"vocab_size", 32},         {"hidden_size", 8},
    {"num_hidden_layers", 2},      {"num_attention_heads", 2}, {"intermediate_size", 16},
    {"max_position_embeddings", 8}};
const Json kOpt = {{"model_type", "opt"},    {"vocab_size", 32},
                   {"hidden_size", 8},       {"word_embed_proj_dim", 4},
                   {"num_hidden_layers", 2}, {"num_attention_heads", 2},
                   {"ffn_dim", 16},          {"max_position_embeddings", 8}};
const Json kVit = {{"model_type", "vit"},
                   {"id2label", {{"0", "cat"}, {"1", "dog"}, {"2", "cow"}}},
                   {"label2id", {{"cat", 0}, {"dog", 1}, {"cow", 2}}},
                   {"hidden_size", 8},
                   {"num_hidden_layers", 2},
                   {"num_attention_heads", 2},
                   {"intermediate_size", 16},
                   {"image_size", 8},
                   {"patch_size", 4},
                   {"num_channels", 1}};
const std::string kMissing = "bert.encoder.layer.1.output.dense.weight",
                  kMissingToo = "bert.embeddings.LayerNorm.bias";

class CliConvert : public CliTest {
 protected:
  using Tensors = std::map<std::string, at::Tensor>;

  // A folder `theirs` without weights, and the random model that it describes.
  Pretrained make(const Json& config) {
    folder_.write("theirs/config.json", dump(config));
    Pretrained model = load_architecture(folder_ / "theirs");
    model.model->parameters.initialize(3);
    return model;
  }
  static Tensors tensors_of(const Pretrained& model) {
    Tensors tensors;
    for (const auto& [name, value] : model.model->parameters.named_values()) tensors[name] = value;
    return tensors;
  }
  void write(const Tensors& tensors) {
    write_safetensors(folder_ / "theirs/model.safetensors", {tensors.begin(), tensors.end()});
  }
  Outcome convert(const std::vector<std::string>& more = {}) {
    std::vector<std::string> arguments = {"convert", "theirs", "--output", "ours"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return quench(arguments);
  }
  void expect_converted(const Tensors& expected, const std::vector<std::string>& more = {}) {
    const Outcome outcome = convert(more);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    const Tensors written = read_safetensors(folder_ / "ours/model.safetensors");
    EXPECT_EQ(written.size(), expected.size());
    for (const auto& [name, value] : expected)
      EXPECT_TRUE(at::equal(written.at(name), value)) << name;
  }
  void expect_refused(const std::vector<std::string>& parts) {
    const Outcome outcome = convert();
    EXPECT_EQ(outcome.status, 1);
    for (const std::string& part : parts)
      EXPECT_NE(outcome.err.find(part), std::string::npos) << outcome.err;
    for (const auto& entry : fs::directory_iterator(folder_ / ""))
      EXPECT_EQ(entry.path().filename().string().find("ours"), std::string::npos) << entry.path();
  }
  // What the folder `ours` computes.
  at::Tensor logits(const std::string& inputs) {
    done({"forward", "ours", "--inputs", inputs, "--output", "out.safetensors"});
    return read_safetensors(folder_ / "out.safetensors").at("logits");
  }
  static at::Tensor logits(const Pretrained& model, const Batch& batch) {
    ForwardContext context;
    return model.model->forward(batch, context, Want::kLogits).logits.detach();
  }
};

// Each as a bare model's or an older file would have it: without the prefix, with the tied head.
TEST_F(CliConvert, KeepsTheLogitsOfLanguageModels) {
  Batch batch;
  batch.input_ids = read_safetensors(folder_ / "validation.safetensors").at("input_ids");
  for (const auto& [config, prefix, head, embedding] :
       {std::tuple{kBert, "bert.", "cls.predictions.decoder.weight",
                   "bert.embeddings.word_embeddings.weight"},
        {kOpt, "model.", "lm_head.weight", "model.decoder.embed_tokens.weight"}}) {
    const Pretrained model = make(config);
    const Tensors tensors = tensors_of(model);
    Tensors theirs;
    for (const auto& [name, value] : tensors)
      theirs[name.starts_with(prefix) ? name.substr(std::string(prefix).size()) : name] = value;
    theirs[head] = tensors.at(embedding).clone();
    write(theirs);
    expect_converted(tensors);
    EXPECT_TRUE(at::allclose(logits("validation.safetensors"), logits(model, batch), 0, 1e-6));
    EXPECT_EQ(json("ours/config.json").at("quench").at("max_seq_length"), 8);
    fs::remove_all(folder_ / "ours");
  }
}

TEST_F(CliConvert, KeepsTheLogitsAndLabelsOfAVit) {
  const Pretrained model = make(kVit);
  write(tensors_of(model));
  expect_converted(tensors_of(model));
  Batch batch;
  batch.pixel_values = at::sin(at::arange(3 * 64, at::kFloat)).view({3, 1, 8, 8});
  write_safetensors(folder_ / "images.safetensors", {{"pixel_values", batch.pixel_values}});
  EXPECT_TRUE(at::allclose(logits("images.safetensors"), logits(model, batch), 0, 1e-6));
  EXPECT_EQ(json("ours/config.json").at("id2label"), kVit.at("id2label"));
  EXPECT_EQ(json("ours/config.json").at("label2id"), kVit.at("label2id"));
}

TEST_F(CliConvert, ReadsPytorchModelBin) {
  const Tensors tensors = tensors_of(make(kBert));
  folder_.write("theirs/pytorch_model.bin", torch_file(tensors));
  expect_converted(tensors);
  EXPECT_FALSE(exists("ours/pytorch_model.bin"));
}

TEST_F(CliConvert, TakesTheTokenizerAlong) {
  const Tensors tensors = tensors_of(make(kBert));
  write(tensors);
  folder_.write("theirs/vocab.txt", "[PAD]\n");
  folder_.write("theirs/training_args.bin", "x");
  expect_converted(tensors);
  EXPECT_EQ(folder_.read("ours/vocab.txt"), "[PAD]\n");
  EXPECT_FALSE(exists("ours/training_args.bin"));
}

TEST_F(CliConvert, IsToldWhatACheckpointDoesNotSay) {
  const Tensors tensors = tensors_of(make(kBert));
  write(tensors);
  expect_converted(tensors, {"--set", "attention.softmax.type=clipped", "--set",
                             "attention.softmax.alpha=2", "--max-seq-length", "4"});
  const Json ours = json("ours/config.json").at("quench");
  EXPECT_EQ(ours.at("max_seq_length"), 4);
  EXPECT_EQ(ours.at("attention").at("softmax").at("type"), "clipped");
  EXPECT_EQ(ours.at("attention").at("softmax").at("alpha"), 2);
}

TEST_F(CliConvert, NamesMissingAndUnexpectedTensorsAndWritesNothing) {
  Tensors tensors = tensors_of(make(kBert));
  tensors["classifier.weight"] = at::zeros({2, 8});
  write(tensors);
  expect_refused({"theirs", "does not have", "classifier.weight"});
  tensors.erase("classifier.weight");
  tensors.erase(kMissing);
  tensors.erase(kMissingToo);
  write(tensors);
  expect_refused({"theirs", "missing", kMissing, kMissingToo});
}

TEST_F(CliConvert, AllowPartialSaysWhatItDid) {
  const Tensors whole = tensors_of(make(kBert));
  Tensors tensors = whole;
  tensors.erase(kMissing);
  tensors["classifier.weight"] = at::zeros({2, 8});
  write(tensors);
  const Outcome outcome = convert({"--allow-partial"});
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_NE(outcome.err.find("freshly drawn: " + kMissing), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("ignored: classifier.weight"), std::string::npos) << outcome.err;
  const Tensors written = read_safetensors(folder_ / "ours/model.safetensors");
  EXPECT_EQ(written.size(), whole.size());
  for (const auto& [name, value] : written)
    EXPECT_EQ(at::equal(value, whole.at(name)), name != kMissing) << name;
  EXPECT_NEAR(written.at(kMissing).std().item<double>(), 0.02, 0.01);
}

TEST_F(CliConvert, LeavesAnExistingFolderAlone) {
  write(tensors_of(make(kBert)));
  folder_.write("ours/notes.txt", "mine");
  const Outcome outcome = convert();
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("ours exists already"), std::string::npos) << outcome.err;
  EXPECT_EQ(folder_.read("ours/notes.txt"), "mine");
  EXPECT_FALSE(exists("ours/config.json"));
}

}  // namespace
}  // namespace quench
