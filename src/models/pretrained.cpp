#include "models/pretrained.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"
#include "io/atomic_file.h"
#include "io/pickle.h"
#include "io/safetensors.h"
#include "models/names.h"
#include "models/run_checkpoints.h"

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
  f("max_seq_length", a.max_seq_length, "0: the model's positions", config::at_least(0));
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

// Hugging Face's switches that our models do not have, each with the one value that fits them.
void check_switches(const Json& hugging_face, const std::string& file) {
  static const Json fixed = {{"tie_word_embeddings", true},
                             {"position_embedding_type", "absolute"},
                             {"is_decoder", false},
                             {"add_cross_attention", false},
                             {"enable_bias", true},
                             {"layer_norm_elementwise_affine", true},
                             {"_remove_final_layer_norm", false},
                             {"qkv_bias", true}};
  for (const auto& [key, value] : fixed.items())
    check(hugging_face.value(key, value) == value, file, ": ", key, ": expected ", dump(value),
          ", the only value that quench supports, got ", dump(hugging_face.value(key, value)));
}

// The model that config.json names, with default sizes.
std::shared_ptr<ModelConfig> default_model(const Json& hugging_face, const std::string& file) {
  check(hugging_face.is_object() && hugging_face.contains("model_type") &&
            hugging_face.at("model_type").is_string(),
        file, ": expected an object with `model_type`");
  const auto type = hugging_face.at("model_type").get<std::string>();
  std::shared_ptr<ModelConfig> model;
  std::vector<std::string> types;
  for (const auto& entry : model_types().entries) {
    types.push_back(entry.type);
    if (entry.type == type) model = entry.make();
  }
  check(model != nullptr, file, ": model_type '", type, "' is none of ", listed(types));
  check_switches(hugging_face, file);
  return model;
}

// The keys of Hugging Face's config.json that our model has, under its `type`.
Json known_keys(const Json& hugging_face, const std::string& file) {
  Architecture defaults;
  defaults.model = default_model(hugging_face, file);
  Json model = {{"type", defaults.model->type()}};
  const Json known = config::write(defaults).at("model");
  for (const auto& [key, unused] : known.items()) {
    if (key == "type" || !hugging_face.contains(key)) continue;
    const Json& value = hugging_face.at(key);
    if (!value.is_null()) model[key] = value;
    if (value.is_null() && key.ends_with("_token_id")) model[key] = -1;  // there is none
  }
  if (known.contains("num_labels") && !hugging_face.contains("num_labels"))
    model["num_labels"] =
        hugging_face.contains("id2label") ? hugging_face.at("id2label").size() : size_t{2};
  return model;
}

Json read_config(const std::string& file) {
  try {
    return parse_json(read_file(file));
  } catch (const std::exception& error) {
    fail(file, ": not JSON: ", error.what());
  }
}

// The sections of a run's config that config.json holds. `gate` stands where it says nothing of
// ours.
Json sections(const Json& json, const std::string& file, const Json& gate) {
  Json all = {{"model", known_keys(json, file)}};
  if (json.contains("quench")) {
    if (!json.at("quench").is_object()) fail_usage(file, ": quench: expected an object");
    for (const auto& [key, value] : json.at("quench").items()) all[key] = value;
  } else {
    all["attention"]["gate"] = gate;
  }
  return all;
}

// What config.json calls the classes; empty unless it names each.
std::vector<std::string> read_class_names(const Json& hugging_face, int64_t classes) {
  const Json labels = hugging_face.value("id2label", Json::object());
  std::vector<std::string> names;
  for (int64_t id = 0; id < classes; ++id) {
    const auto name = labels.find(std::to_string(id));
    if (name == labels.end() || !name->is_string()) return {};
    names.push_back(*name);
  }
  return names;
}

Pretrained make_model(const fs::path& folder, const Json& hugging_face,
                      const config::Node& sections) {
  Architecture architecture;
  config::read(sections, architecture);
  Pretrained pretrained{
      architecture.model, architecture.attention, architecture.max_seq_length, nullptr, folder, {}};
  if (architecture.model->vocabulary_or_classes() == 0)
    fail_usage((folder / "config.json").string(), ": vocab_size is missing");
  if (pretrained.max_seq_length == 0)
    pretrained.max_seq_length = architecture.model->max_positions();
  if (pretrained.config->image_side() > 0)
    pretrained.class_names =
        read_class_names(hugging_face, pretrained.config->vocabulary_or_classes());
  pretrained.model = pretrained.config->build(pretrained.attention, pretrained.max_seq_length);
  return pretrained;
}

std::map<std::string, at::Tensor> read_tensors(const fs::path& folder) {
  for (const char* name : {"model.safetensors", "model.safetensors.index.json"})
    if (fs::exists(folder / name)) return read_safetensors(folder / name);
  for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json"})
    if (fs::exists(folder / name)) return read_pickle(folder / name);
  fail(folder.string(),
       " holds neither model.safetensors nor pytorch_model.bin, nor an index of shards of either");
}

// An encoder-only checkpoint lacks the whole head: it is drawn afresh, as Hugging Face does.
// Returns its names.
std::vector<std::string> add_missing_head(Pretrained& pretrained,
                                          std::map<std::string, at::Tensor>& tensors) {
  const std::string body = pretrained.config->traits().body_prefix;
  std::map<std::string, at::Tensor> head;
  for (const auto& [name, value] : pretrained.model->parameters.named_values())
    if (!name.starts_with(body)) head.emplace(name, value);
  std::vector<std::string> names;
  for (const auto& [name, value] : head) {
    if (tensors.contains(name)) return {};
    names.push_back(name);
  }
  if (names.empty()) return {};
  pretrained.model->parameters.initialize(0, names);
  log_warning("the checkpoint has no head; freshly drawn: " + listed(names));
  tensors.merge(head);
  return names;
}

// The errors of load_values(), with the way round them.
void check_names(const NameDifference& difference) {
  const auto& [missing, unexpected] = difference;
  check(missing.empty(), "parameters missing from the checkpoint: ", listed(missing, 8),
        "; --allow-partial draws them afresh");
  check(unexpected.empty(),
        "parameters in the checkpoint that the model does not have: ", listed(unexpected, 8),
        "; --allow-partial leaves them out");
}

void check_kinship(const Parameters& parameters, const std::map<std::string, at::Tensor>& tensors) {
  if (compare_names(parameters, tensors).unexpected.size() < tensors.size()) return;
  std::vector<std::string> names;
  for (const auto& [name, tensor] : tensors) names.push_back(name);
  fail("no tensor of the checkpoint belongs to the model: it has ", listed(names, 3),
       ", the model ", parameters.named_values().front().first, " and so on");
}

void load_tensors(Pretrained& pretrained, std::map<std::string, at::Tensor> tensors,
                  bool allow_partial) {
  Parameters& parameters = pretrained.model->parameters;
  check_kinship(parameters, tensors);
  pretrained.fresh = add_missing_head(pretrained, tensors);
  if (!allow_partial) check_names(compare_names(parameters, tensors));
  const auto [missing, unexpected] = load_values(parameters, tensors, allow_partial);
  parameters.initialize(0, missing);
  pretrained.fresh.insert(pretrained.fresh.end(), missing.begin(), missing.end());
  if (!missing.empty()) log_warning("not in the checkpoint, freshly drawn: " + listed(missing));
  if (!unexpected.empty()) log_warning("not in the model, ignored: " + listed(unexpected));
  parameters.to(at::kCPU, at::kFloat);
}

}  // namespace

fs::path model_folder(const std::string& model) {
  if (fs::exists(fs::path(model) / "config.json")) return model;
  if (const auto latest = latest_checkpoint(model, CheckpointUse::kModel)) return latest->path;
  fail_usage("'", model,
             "' is no MODEL: expected a folder with a config.json, or a run folder with a "
             "checkpoint");
}

Pretrained load_architecture(const fs::path& folder) {
  const std::string file = (folder / "config.json").string();
  const Json json = read_config(file);
  return make_model(folder, json, to_node(sections(json, file, {{"type", "none"}}), {file, 0}));
}

Pretrained load_pretrained(const std::string& model, bool allow_partial,
                           const std::vector<std::string>& assignments) {
  const fs::path folder = model_folder(model);
  const std::string file = (folder / "config.json").string();
  const Json json = read_config(file);
  const Spellings spellings = default_model(json, file)->traits().spellings;
  const std::map<std::string, at::Tensor> tensors = read_tensors(folder);
  try {
    OurNames ours = our_names(spellings, unwrapped(tensors, default_model(json, file)->traits()));
    const Json gate = gate_section(ours.tensors);
    config::Node node = to_node(sections(json, file, gate), {file, 0});
    for (const std::string& assignment : assignments) config::set(node, assignment);
    Pretrained pretrained = make_model(folder, json, node);
    if (!ours.unused.empty()) log_info("not used: " + listed(ours.unused));
    if (!json.contains("quench") && gate.at("type") != "none")
      log_info(concat("gates recognised by their parameters: ", dump(gate),
                      "; what leaves no trace there (clipping, "
                      "granularity, output_scale) is taken from --set, or the default"));
    load_tensors(pretrained, std::move(ours.tensors), allow_partial);
    return pretrained;
  } catch (const UsageError&) {
    throw;  // names its file already
  } catch (const Error& error) {
    fail(folder.string(), ": ", error.what());
  }
}

void check_class_order(const std::vector<std::string>& classes, const Pretrained& pretrained) {
  const std::vector<std::string>& own = pretrained.class_names;
  for (size_t id = 0; id < std::min(classes.size(), own.size()); ++id) {
    if (classes[id] == own[id]) continue;
    const auto place = std::ranges::find(own, classes[id]) - own.begin();
    if (place < std::ssize(own))
      fail_usage("the data must number its classes as the model does: its class ", id, " is '",
                 classes[id], "', which is class ", place, " of the model");
  }
}

void save_pretrained(const fs::path& folder, const Pretrained& pretrained) {
  save_pretrained(folder, pretrained, pretrained.model->parameters.named_values());
}

void save_pretrained(const fs::path& folder, const Pretrained& pretrained,
                     const std::vector<std::pair<std::string, at::Tensor>>& weights) {
  Json json = pretrained.config->hugging_face();
  json["torch_dtype"] = "float32";
  Architecture architecture{pretrained.config, pretrained.attention, pretrained.max_seq_length};
  Json ours = config::write(architecture);
  ours.erase("model");
  json["quench"] = ours;
  write_safetensors(folder / "model.safetensors", weights, {{"format", "pt"}});
  if (!pretrained.class_names.empty()) {
    json["id2label"] = json["label2id"] = Json::object();
    for (size_t id = 0; id < pretrained.class_names.size(); ++id) {
      json["id2label"][std::to_string(id)] = pretrained.class_names[id];
      json["label2id"][pretrained.class_names[id]] = id;
    }
  }
  write_file_atomically(folder / "config.json", dump(json, 2) + "\n");
  if (!pretrained.image_processor.is_null())
    write_file_atomically(folder / "preprocessor_config.json",
                          dump(pretrained.image_processor, 2) + "\n");
}

}  // namespace quench
