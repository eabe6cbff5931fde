// Hugging Face folders: what is written, what is read, and what is refused.
#include "models/pretrained.h"

#include "io/atomic_file.h"
#include "io/safetensors.h"
#include "tests/io/temporary_folder.h"
#include "tests/models/tiny_bert.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

class PretrainedFolder : public TemporaryFolder {
 protected:
  Json config() const { return parse_json(read_file(folder_ / "config.json")); }
  // What loading says once `config` is the config.json of a saved tiny BERT, behind the file's
  // name.
  std::string complaint(const std::string& config) const {
    save_pretrained(folder_, tiny_bert());
    write_file_atomically(folder_ / "config.json", config);
    const std::string message = error_of([&] { load_pretrained(folder_.string()); });
    const std::string file = (folder_ / "config.json").string();
    return message.starts_with(file) ? message.substr(file.size()) : message;
  }
  std::string complaint(const std::string& key, const Json& value) const {
    save_pretrained(folder_, tiny_bert());
    Json changed = config();
    value.is_null() ? static_cast<void>(changed.erase(key))
                    : static_cast<void>(changed[key] = value);
    return complaint(dump(changed));
  }
};

TEST_F(PretrainedFolder, LoadsWhatItSaved) {
  AttentionConfig attention;
  const auto clipped = std::make_shared<ClippedSoftmax>();
  clipped->alpha = 4;
  attention.softmax = clipped;
  const Pretrained saved = tiny_bert(3, tiny_bert_config(), attention);
  save_pretrained(folder_, saved);
  const Pretrained loaded = load_pretrained(folder_.string());
  EXPECT_TRUE(equal(weights_of(saved), weights_of(loaded)));
  EXPECT_EQ(loaded.config->hugging_face(), saved.config->hugging_face());
  EXPECT_EQ(config::write(loaded.attention), config::write(attention));
  EXPECT_EQ(loaded.max_seq_length, 8);
  EXPECT_EQ(loaded.folder, folder_);

  ForwardContext a, b;
  const Batch batch = tiny_batch(0);
  EXPECT_TRUE(at::equal(saved.model->forward(batch, a, Want::kLogits).logits,
                        loaded.model->forward(batch, b, Want::kLogits).logits));
}

TEST_F(PretrainedFolder, ConfigHasHuggingFacesKeysAndOursUnderOne) {
  save_pretrained(folder_, tiny_bert());
  const Json json = config();
  EXPECT_EQ(json.at("model_type"), "bert");
  EXPECT_EQ(json.at("architectures"), Json({"BertForMaskedLM"}));
  EXPECT_EQ(json.at("hidden_size"), 8);
  EXPECT_EQ(json.at("torch_dtype"), "float32");
  EXPECT_EQ(json.at("quench").at("max_seq_length"), 8);
  EXPECT_EQ(json.at("quench").at("attention").at("softmax").at("type"), "softmax");
  EXPECT_EQ(json.at("quench").at("attention").at("gate").at("type"), "none");
  EXPECT_EQ(json.at("quench").size(), 2u);
  EXPECT_FALSE(json.contains("initialization"));
}

TEST_F(PretrainedFolder, AVanillaHuggingFaceFolderLoads) {
  save_pretrained(folder_, tiny_bert());
  Json vanilla = config();
  vanilla.erase("quench");
  vanilla["transformers_version"] = "4.31.0";
  vanilla["position_embedding_type"] = "absolute";
  write_file_atomically(folder_ / "config.json", dump(vanilla));
  const Pretrained loaded = load_pretrained(folder_.string());
  EXPECT_EQ(loaded.attention.softmax->type(), "softmax");
  EXPECT_EQ(loaded.max_seq_length, 8) << "the positions";
}

TEST_F(PretrainedFolder, NamesTheFaultOfAConfig) {
  EXPECT_TRUE(complaint("{\"model_type\": ").starts_with(": not JSON: "));
  EXPECT_EQ(complaint("[]"), ": expected an object with `model_type`");
  EXPECT_EQ(complaint("{}"), ": expected an object with `model_type`");
  EXPECT_EQ(complaint("model_type", 3), ": expected an object with `model_type`");
  EXPECT_EQ(complaint("quench", "ours"), ": quench: expected an object");
  EXPECT_EQ(complaint("model_type", "gpt2"), ": model_type 'gpt2' is none of bert, opt, vit");
  EXPECT_EQ(complaint("vocab_size", Json()), ": vocab_size is missing");
  for (const auto& [key, value] : {std::pair<std::string, Json>{"hidden_size", "eight"},
                                   {"num_attention_heads", 3},
                                   {"hidden_act", "swish"}}) {
    const std::string message = complaint(key, value);
    EXPECT_NE(message.find("model." + key), std::string::npos) << message;
    EXPECT_TRUE(message.starts_with(":")) << "names the file: " << message;
  }
  const std::string message =
      complaint("quench", {{"attention", {{"softmax", {{"type", "cliped"}}}}}});
  EXPECT_NE(message.find("attention.softmax.type"), std::string::npos) << message;
  EXPECT_TRUE(message.starts_with(":")) << "names the file: " << message;
}

TEST_F(PretrainedFolder, NamesTheFaultOfTheWeights) {
  save_pretrained(folder_, tiny_bert());
  const fs::path file = folder_ / "model.safetensors";
  auto tensors = read_safetensors(file);
  const auto loading = [&] {
    write_safetensors(file, {tensors.begin(), tensors.end()});
    return error_of([&] { load_pretrained(folder_.string()); });
  };
  const std::string name = "bert.encoder.layer.0.attention.self.key.weight";
  const at::Tensor weight = tensors.at(name).clone();
  tensors.erase(name);
  EXPECT_EQ(loading(), folder_.string() + ": parameters missing from the checkpoint: " + name +
                           "; --allow-partial draws them afresh");
  tensors[name] = at::zeros({8, 4});
  EXPECT_EQ(loading(), folder_.string() + ": parameters of another shape: " + name +
                           " (expected [8, 8], got [8, 4])");
  tensors[name] = weight;
  tensors["bert.encoder.layer.1.output.dense.weight"] = at::zeros({8, 8});
  EXPECT_EQ(loading(), folder_.string() +
                           ": parameters in the checkpoint that the model does not have: "
                           "bert.encoder.layer.1.output.dense.weight; --allow-partial leaves them "
                           "out");
}

TEST_F(PretrainedFolder, ATokenIdThatIsNullIsNone) {
  save_pretrained(folder_, tiny_bert());
  Json json = config();
  EXPECT_EQ(json.at("pad_token_id"), 0);
  json["pad_token_id"] = nullptr;
  write_file_atomically(folder_ / "config.json", dump(json));
  const Pretrained loaded = load_pretrained(folder_.string());
  EXPECT_TRUE(loaded.config->hugging_face().at("pad_token_id").is_null());
  for (const Parameter& parameter : loaded.model->parameters.all())
    EXPECT_EQ(parameter.zero_row, -1);
}

TEST_F(PretrainedFolder, NamesThatWrappersLeftAreUnderstood) {
  save_pretrained(folder_, tiny_bert());
  const fs::path file = folder_ / "model.safetensors";
  const auto tensors = read_safetensors(file);
  const auto weights = weights_of(load_pretrained(folder_.string()));
  for (const std::string prefix :
       {"module.", "_orig_mod.", "_orig_mod.module.", "model.", "module._orig_mod.net.", "a."}) {
    std::vector<std::pair<std::string, at::Tensor>> wrapped;
    for (const auto& [theirs, tensor] : tensors) {
      std::string name = theirs;
      if (const size_t at = name.find("layer.0."); at != name.npos)
        name.insert(at + 8, "_fsdp_wrapped_module._checkpoint_wrapped_module.");
      wrapped.emplace_back(prefix + name, tensor.clone());
    }
    write_safetensors(file, wrapped);
    EXPECT_TRUE(equal(weights, weights_of(load_pretrained(folder_.string())))) << prefix;
  }
}

TEST_F(PretrainedFolder, NamesAWeightsFileThatIsCutOrMissing) {
  save_pretrained(folder_, tiny_bert());
  const fs::path file = folder_ / "model.safetensors";
  const std::string whole = read_file(file);
  for (const size_t size : {size_t{0}, size_t{7}, size_t{100}, whole.size() - 1}) {
    write_file_atomically(file, whole.substr(0, size));
    const std::string message = error_of([&] { load_pretrained(folder_.string()); });
    EXPECT_NE(message.find(file.string()), std::string::npos) << size << ": " << message;
  }
  fs::remove(file);
  const std::string message = error_of([&] { load_pretrained(folder_.string()); });
  EXPECT_NE(message.find(folder_.string()), std::string::npos) << message;
}

TEST_F(PretrainedFolder, APartialLoadDrawsWhatIsMissing) {
  save_pretrained(folder_, tiny_bert());
  const fs::path file = folder_ / "model.safetensors";
  auto tensors = read_safetensors(file);
  const std::string name = "bert.encoder.layer.0.output.dense.weight";
  tensors.erase(name);
  write_safetensors(file, {tensors.begin(), tensors.end()});
  const auto weights = weights_of(load_pretrained(folder_.string(), /*allow_partial=*/true));
  for (const auto& [key, value] : tensors) EXPECT_TRUE(at::equal(weights.at(key), value)) << key;
  EXPECT_NEAR(weights.at(name).std().item<double>(), 0.02, 0.01);
}

TEST_F(PretrainedFolder, LoadsHalfPrecisionAsFloat32) {
  save_pretrained(folder_, tiny_bert());
  const fs::path file = folder_ / "model.safetensors";
  auto tensors = read_safetensors(file);
  for (auto& [name, tensor] : tensors) tensor = tensor.to(at::kBFloat16);
  write_safetensors(file, {tensors.begin(), tensors.end()});
  for (const auto& [name, value] : weights_of(load_pretrained(folder_.string()))) {
    EXPECT_EQ(value.scalar_type(), at::kFloat);
    EXPECT_TRUE(at::equal(value, tensors.at(name).to(at::kFloat))) << name;
  }
}

TEST_F(PretrainedFolder, AModelIsACheckpointOrARun) {
  const fs::path checkpoint = folder_ / "checkpoints" / "step-00000002";
  fs::create_directories(checkpoint);
  EXPECT_NE(error_of([&] { model_folder(folder_.string()); }).find("no complete checkpoint"),
            std::string::npos);
  save_pretrained(checkpoint, tiny_bert());
  EXPECT_EQ(model_folder(folder_.string()), checkpoint) << "no `latest`";
  write_file_atomically(folder_ / "checkpoints" / "latest", "step-00000002\n");
  EXPECT_EQ(model_folder(folder_.string()), checkpoint);
  EXPECT_EQ(model_folder(checkpoint.string()), checkpoint);
  fs::remove_all(folder_ / "checkpoints");
  EXPECT_NE(error_of([&] { model_folder(folder_.string()); }).find("is no MODEL"),
            std::string::npos);
}

}  // namespace
}  // namespace quench
