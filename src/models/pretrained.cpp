#include "models/pretrained.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "base/log.h"
#include "io/atomic_file.h"
#include "io/safetensors.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// What config.json says of ours, in the shape of a run's config.
struct Architecture {
  std::shared_ptr<ModelConfig> model;
  AttentionConfig attention;
  int64_t max_seq_length = 0;
};

void describe(config::Fields& f, Architecture& a) {
  f.variant("model", a.model, model_types(), "");
  f.section("attention", a.attention, "");
  f("max_seq_length", a.max_seq_length, "");
}

config::Node to_node(const Json& json, const config::Place& place) {
  config::Node node;
  node.place = place;
  if (json.is_object()) {
    node.kind = config::Node::Kind::kMap;
    for (const auto& [key, value] : json.items())
      node.entries.emplace_back(key, to_node(value, place));
  } else if (json.is_array()) {
    node.kind = config::Node::Kind::kList;
    for (const Json& item : json) node.items.push_back(to_node(item, place));
  } else {
    node.scalar = json;
  }
  return node;
}

// The keys of Hugging Face's config.json that our model has, under its `type`.
Json known_keys(const Json& hugging_face, const std::string& file) {
  check(hugging_face.is_object() && hugging_face.contains("model_type"), file,
        ": expected an object with `model_type`");
  const std::string type = hugging_face.at("model_type").get<std::string>();
  Architecture defaults;
  for (const auto& entry : model_types().entries)
    if (entry.type == type) defaults.model = entry.make();
  check(defaults.model != nullptr, file, ": model_type '", type, "' is none of bert, opt, vit");
  Json model = {{"type", type}};
  const Json known = config::write(defaults);
  for (const auto& [key, unused] : known.at("model").items())
    if (key != "type" && hugging_face.contains(key)) model[key] = hugging_face.at(key);
  if (type == "vit" && !hugging_face.contains("num_labels"))
    model["num_labels"] =
        hugging_face.contains("id2label") ? hugging_face.at("id2label").size() : size_t{2};
  return model;
}

}  // namespace

fs::path model_folder(const std::string& model) {
  if (fs::exists(fs::path(model) / "config.json")) return model;
  const fs::path latest = fs::path(model) / "checkpoints" / "latest";
  if (fs::exists(latest)) {
    std::string name = read_file(latest);
    while (!name.empty() && std::isspace(static_cast<unsigned char>(name.back()))) name.pop_back();
    const fs::path folder = latest.parent_path() / name;
    if (fs::exists(folder / "config.json")) return folder;
    throw UsageError(concat(latest.string(), " names '", name, "', which holds no config.json"));
  }
  throw UsageError(
      concat("'", model,
             "' is no MODEL: expected a folder with a config.json, or a run folder with a "
             "checkpoint"));
}

Pretrained load_architecture(const fs::path& folder) {
  const std::string file = (folder / "config.json").string();
  Json json;
  try {
    json = Json::parse(read_file(file));
  } catch (const Json::exception& error) {
    fail(file, ": not JSON: ", error.what());
  }
  Json all = {{"model", known_keys(json, file)}};
  if (json.contains("quench"))
    for (const auto& [key, value] : json.at("quench").items()) all[key] = value;
  Architecture architecture;
  config::read(to_node(all, {file, 0}), architecture);
  Pretrained pretrained{architecture.model, architecture.attention, architecture.max_seq_length,
                        nullptr, folder};
  check(architecture.model->vocabulary_or_classes() > 0, file, ": vocab_size is missing");
  if (pretrained.max_seq_length == 0)
    pretrained.max_seq_length = architecture.model->max_positions();
  pretrained.model = pretrained.config->build(pretrained.attention, pretrained.max_seq_length);
  return pretrained;
}

Pretrained load_pretrained(const std::string& model, bool allow_partial) {
  Pretrained pretrained = load_architecture(model_folder(model));
  try {
    Model& loaded = *pretrained.model;
    if (allow_partial) loaded.parameters.initialize(0);
    const auto missing = load_values(loaded.parameters, read_safetensors(pretrained.folder),
                                     loaded.aliases(), allow_partial);
    for (const std::string& name : missing)
      log_warning(concat(name, " is not in the checkpoint: freshly drawn"));
    loaded.parameters.to(at::kCPU, at::kFloat);
  } catch (const Error& error) {
    fail(pretrained.folder.string(), ": ", error.what());
  }
  return pretrained;
}

void save_pretrained(const fs::path& folder, const Pretrained& pretrained) {
  Json json = pretrained.config->hugging_face();
  json["torch_dtype"] = "float32";
  Architecture architecture{pretrained.config, pretrained.attention, pretrained.max_seq_length};
  Json ours = config::write(architecture);
  ours.erase("model");
  json["quench"] = ours;
  write_safetensors(folder / "model.safetensors", pretrained.model->parameters.named_values(),
                    {{"format", "pt"}});
  write_file_atomically(folder / "config.json", json.dump(2) + "\n");
}

}  // namespace quench
