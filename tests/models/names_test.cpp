#include "models/names.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "io/atomic_file.h"
#include "io/safetensors.h"
#include "models/pretrained.h"
#include "tests/support/golden.h"

namespace quench {
namespace {

namespace fs = std::filesystem;
using Tensors = std::map<std::string, at::Tensor>;

Tensors tensors_called(const std::vector<std::string>& names) {
  Tensors tensors;
  for (const std::string& name : names) tensors[name] = at::zeros({2});
  return tensors;
}

using Names = std::vector<std::string>;

Spellings spellings(const std::string& type) {
  for (const auto& entry : model_types().entries)
    if (entry.type == type) return entry.make()->traits().spellings;
  return {};
}

Names names_of(const std::string& type, const Names& theirs) {
  Names names;
  for (const auto& [name, tensor] : our_names(spellings(type), tensors_called(theirs)).tensors)
    names.push_back(name);
  return names;
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  if (const size_t at = text.find(from); at != std::string::npos) text.replace(at, from.size(), to);
  return text;
}

std::string error_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

void expect_contains(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << message;
}

// OPT's own names begin with what a trainer's module may be called, too.
TEST(OurNames, AWrappersPrefixIsToldFromTheModelsOwn) {
  const auto unwrap = [](const std::string& type, const Names& theirs) {
    for (const auto& entry : model_types().entries)
      if (entry.type == type) {
        Names names;
        for (const auto& [name, tensor] : unwrapped(tensors_called(theirs), entry.make()->traits()))
          names.push_back(name);
        return names;
      }
    return Names();
  };
  const Names own = {"model.decoder.embed_tokens.weight", "model.decoder.final_layer_norm.bias"};
  EXPECT_EQ(unwrap("opt", own), own);
  EXPECT_EQ(unwrap("opt", {"model.model.decoder.embed_tokens.weight",
                           "model.model.decoder.final_layer_norm.bias"}),
            own);
  EXPECT_EQ(unwrap("opt", {"decoder.embed_tokens.weight"}), Names{"decoder.embed_tokens.weight"});
  EXPECT_EQ(unwrap("bert", {"net.bert.a", "other.b"}), (Names{"net.bert.a", "other.b"}));
  expect_contains(error_of([&] {
                    unwrap("bert", {"module.bert.a", "bert.a"});
                  }),
                  "two tensors of the checkpoint are bert.a");
}

TEST(OurNames, AddsThePrefixThatBareModelsLack) {
  EXPECT_EQ(names_of("bert", {"encoder.layer.0.output.dense.bias", "embeddings.LayerNorm.weight"}),
            (Names{"bert.embeddings.LayerNorm.weight", "bert.encoder.layer.0.output.dense.bias"}));
  EXPECT_EQ(names_of("opt", {"decoder.layers.0.fc1.bias"}),
            Names{"model.decoder.layers.0.fc1.bias"});
  EXPECT_EQ(names_of("opt", {"layers.0.fc1.bias"}), Names{"model.decoder.layers.0.fc1.bias"});
  EXPECT_EQ(names_of("vit", {"embeddings.cls_token", "layernorm.bias"}),
            (Names{"vit.embeddings.cls_token", "vit.layernorm.bias"}));
  EXPECT_EQ(names_of("opt", {"model.decoder.final_layer_norm.bias"}),
            Names{"model.decoder.final_layer_norm.bias"});
}

TEST(OurNames, KnowsOlderAndNewerNames) {
  EXPECT_EQ(names_of("bert", {"bert.embeddings.LayerNorm.gamma", "bert.embeddings.LayerNorm.beta"}),
            (Names{"bert.embeddings.LayerNorm.bias", "bert.embeddings.LayerNorm.weight"}));
  EXPECT_EQ(
      names_of("vit", {"vit.layers.3.attention.q_proj.weight",
                       "vit.layers.3.attention.k_proj.weight", "vit.layers.3.attention.v_proj.bias",
                       "vit.layers.3.attention.o_proj.bias", "layers.3.mlp.fc1.weight",
                       "layers.3.mlp.fc2.weight", "layers.3.layernorm_before.weight"}),
      (Names{"vit.encoder.layer.3.attention.attention.key.weight",
             "vit.encoder.layer.3.attention.attention.query.weight",
             "vit.encoder.layer.3.attention.attention.value.bias",
             "vit.encoder.layer.3.attention.output.dense.bias",
             "vit.encoder.layer.3.intermediate.dense.weight",
             "vit.encoder.layer.3.layernorm_before.weight",
             "vit.encoder.layer.3.output.dense.weight"}));
}

TEST(OurNames, DropsBuffersAndNamesWhatItDoesNotUse) {
  const OurNames ours = our_names(
      spellings("bert"), tensors_called({"embeddings.position_ids", "pooler.dense.bias",
                                         "cls.seq_relationship.bias", "cls.predictions.bias"}));
  EXPECT_EQ(ours.tensors.size(), 1u);
  EXPECT_EQ(ours.unused, (Names{"cls.seq_relationship.bias", "pooler.dense.bias"}));
}

TEST(OurNames, TiedWeightsMayStandUnderEitherNameButNotDiffer) {
  const std::string head = "lm_head.weight", embedding = "model.decoder.embed_tokens.weight";
  const at::Tensor x = at::ones({2, 3});
  for (const Tensors& tensors :
       {Tensors{{head, x}}, Tensors{{embedding, x}}, Tensors{{head, x}, {embedding, x.clone()}}})
    EXPECT_EQ(our_names(spellings("opt"), tensors).tensors.at(embedding).numel(), 6)
        << tensors.size();
  for (const at::Tensor& other : {at::zeros({2, 3}), at::ones({3, 2}), at::ones({2, 3}, at::kHalf)})
    expect_contains(error_of([&] {
                      our_names(spellings("opt"), {{head, x}, {embedding, other}});
                    }),
                    "lm_head.weight differs from model.decoder.embed_tokens.weight");
}

TEST(OurNames, RefusesTwoTensorsOfOneName) {
  expect_contains(error_of([] {
                    names_of("bert", {"a.LayerNorm.gamma", "a.LayerNorm.weight"});
                  }),
                  "two tensors of the checkpoint are a.LayerNorm.weight");
}

TEST(GateSection, FollowsFromTheParametersOfThePapersCode) {
  const std::string at = "bert.encoder.layer.0.attention.self.alpha";
  EXPECT_EQ(gate_section({{"bert.x.weight", at::zeros({1})}}), (Json{{"type", "none"}}));
  EXPECT_EQ(gate_section({{at, at::zeros({2})}}), (Json{{"type", "unconditional"}}));
  EXPECT_EQ(gate_section({{at + ".bias", at::zeros({2})}, {at + ".weight", at::zeros({2, 8})}}),
            (Json{{"type", "all_heads"}}));
  EXPECT_EQ(gate_section({{at + ".0.bias", at::zeros({1})}, {at + ".0.weight", at::zeros({1, 4})}}),
            (Json{{"type", "linear"}}));
  EXPECT_EQ(gate_section(
                {{at + ".0.0.weight", at::zeros({3, 4})}, {at + ".0.2.weight", at::zeros({1, 3})}}),
            (Json{{"type", "mlp"}, {"hidden_size", 3}}));
}

// --- whole checkpoints ------------------------------------------------------------------------

const Json kBert = {
    {"model_type", "bert"},        {"vocab_size", 11},         {"hidden_size", 8},
    {"num_hidden_layers", 2},      {"num_attention_heads", 2}, {"intermediate_size", 16},
    {"max_position_embeddings", 8}};

class Checkpoint {
 public:
  explicit Checkpoint(Json config) : config_(std::move(config)) { write_config(config_); }

  void write_config(const Json& config) const {
    write_file_atomically(folder_.path() / "config.json", dump(config));
  }
  // A fresh model's own tensors.
  Tensors tensors() const {
    const Pretrained fresh = load_architecture(folder_.path());
    fresh.model->parameters.initialize(3);
    Tensors tensors;
    for (const auto& [name, value] : fresh.model->parameters.named_values())
      tensors[name] = value.clone();
    return tensors;
  }
  void write(const Tensors& tensors) const {
    write_safetensors(folder_.path() / "model.safetensors", {tensors.begin(), tensors.end()});
  }
  Pretrained load(bool allow_partial = false,
                  const std::vector<std::string>& assignments = {}) const {
    return load_pretrained(folder_.path().string(), allow_partial, assignments);
  }
  std::string error(bool allow_partial = false) const {
    return error_of([&] { load(allow_partial); });
  }
  const fs::path& path() const { return folder_.path(); }

 private:
  Json config_;
  quench::testing::TemporaryDirectory folder_;
};

void expect_equal(const Pretrained& loaded, const Tensors& expected) {
  for (const auto& [name, value] : loaded.model->parameters.named_values()) {
    const auto found = expected.find(name);
    EXPECT_TRUE(found == expected.end() || at::equal(value, found->second)) << name;
  }
}

TEST(LoadPretrained, ReadsOldNamesWithATiedHeadAndAPooler) {
  const Checkpoint checkpoint(kBert);
  const Tensors tensors = checkpoint.tensors();
  Tensors theirs;
  for (const auto& [name, value] : tensors)
    theirs[replaced(replaced(name, "LayerNorm.weight", "LayerNorm.gamma"), "LayerNorm.bias",
                    "LayerNorm.beta")] = value;
  theirs["cls.predictions.decoder.weight"] = tensors.at("bert.embeddings.word_embeddings.weight");
  theirs["bert.embeddings.position_ids"] = at::arange(8);
  theirs["bert.pooler.dense.weight"] = at::zeros({8, 8});
  theirs["cls.seq_relationship.weight"] = at::zeros({2, 8});
  checkpoint.write(theirs);
  expect_equal(checkpoint.load(), tensors);
}

TEST(LoadPretrained, DrawsTheHeadOfAnEncoderAfresh) {
  const Checkpoint checkpoint(kBert);
  Tensors tensors = checkpoint.tensors(), bare;
  std::erase_if(tensors, [](const auto& entry) { return entry.first.starts_with("cls."); });
  for (const auto& [name, value] : tensors) bare[name.substr(5)] = value;
  checkpoint.write(bare);
  const Pretrained loaded = checkpoint.load();
  expect_equal(loaded, tensors);
  for (const auto& [name, value] : loaded.model->parameters.named_values()) {
    EXPECT_TRUE(!name.ends_with("transform.dense.weight") || value.any().item<bool>()) << name;
  }
}

TEST(LoadPretrained, PartOfAHeadOrBodyIsAnErrorUnlessAllowed) {
  const Checkpoint checkpoint(kBert);
  for (const std::string missing : {"cls.predictions.bias", "bert.embeddings.LayerNorm.weight"}) {
    Tensors tensors = checkpoint.tensors();
    tensors.erase(missing);
    checkpoint.write(tensors);
    expect_contains(checkpoint.error(), missing);
    expect_equal(checkpoint.load(/*allow_partial=*/true), tensors);
  }
  Tensors tensors = checkpoint.tensors();
  tensors["classifier.weight"] = at::zeros({2, 8});
  checkpoint.write(tensors);
  expect_contains(checkpoint.error(), "classifier.weight");
  expect_equal(checkpoint.load(/*allow_partial=*/true), tensors);
}

TEST(LoadPretrained, RecognisesTheGatesOfAForeignCheckpointAndTakesTheRestFromAssignments) {
  Json config = kBert;
  config["quench"] = {{"attention", {{"gate", {{"type", "mlp"}, {"hidden_size", 3}}}}}};
  const Checkpoint checkpoint(config);
  const Tensors tensors = checkpoint.tensors();
  checkpoint.write(tensors);
  checkpoint.write_config(kBert);
  const Pretrained loaded =
      checkpoint.load(false, {"attention.softmax.type=clipped", "attention.softmax.alpha=4",
                              "max_seq_length=6", "attention.gate.granularity=per_head"});
  expect_equal(loaded, tensors);
  EXPECT_EQ(loaded.attention.gate->type(), "mlp");
  EXPECT_EQ(loaded.attention.gate->granularity, "per_head");
  const auto& softmax = dynamic_cast<const ClippedSoftmax&>(*loaded.attention.softmax);
  EXPECT_DOUBLE_EQ(softmax.stretch(loaded.max_seq_length).gamma, -4.0 / 6);
  expect_contains(error_of([&] { checkpoint.load(false, {"attention.sofmax=1"}); }), "sofmax");
}

TEST(LoadPretrained, RefusesSwitchesThatItDoesNotHave) {
  Json config = kBert;
  config["position_embedding_type"] = "relative_key";
  expect_contains(Checkpoint(config).error(), "position_embedding_type: expected \"absolute\"");
}

TEST(LoadPretrained, RefusesTheTensorsOfAnotherModel) {
  const Checkpoint checkpoint(kBert);
  checkpoint.write({{"model.decoder.embed_tokens.weight", at::zeros({11, 8})}});
  expect_contains(checkpoint.error(/*allow_partial=*/true),
                  "it has model.decoder.embed_tokens.weight, the model bert.embeddings");
}

TEST(LoadPretrained, FallsBackToPytorchModelBin) {
  const Checkpoint checkpoint(kBert);
  fs::copy_file(fs::path(QUENCH_TESTS_DIR) / "golden/pickle/state.bin",
                checkpoint.path() / "pytorch_model.bin");
  expect_contains(checkpoint.error(), "no tensor of the checkpoint belongs to the model");
}

TEST(LoadPretrained, SaysWhichWeightsItLooksFor) {
  expect_contains(Checkpoint(kBert).error(), "neither model.safetensors nor pytorch_model.bin");
}

TEST(LoadPretrained, CountsTheClassesOfAVit) {
  Json config = {{"model_type", "vit"},      {"hidden_size", 8},        {"num_hidden_layers", 1},
                 {"num_attention_heads", 2}, {"intermediate_size", 16}, {"image_size", 8},
                 {"patch_size", 4}};
  EXPECT_EQ(load_architecture(Checkpoint(config).path()).config->vocabulary_or_classes(), 2);
  config["id2label"] = {{"0", "a"}, {"1", "b"}, {"2", "c"}};
  EXPECT_EQ(load_architecture(Checkpoint(config).path()).config->vocabulary_or_classes(), 3);
}

}  // namespace
}  // namespace quench
