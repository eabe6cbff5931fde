#include "tests/support/golden.h"

#include <ATen/ATen.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>

#include "batches/tensors.h"
#include "device/device.h"
#include "io/atomic_file.h"
#include "io/safetensors.h"

namespace quench::testing {

namespace fs = std::filesystem;

fs::path golden_folder() {
  if (const char* folder = std::getenv("QUENCH_GOLDEN")) return folder;
  const fs::path beside = fs::path(QUENCH_TESTS_DIR) / "../../shared/golden";
  return fs::canonical(fs::exists(beside) ? beside : fs::path(QUENCH_TESTS_DIR) / "golden");
}

std::vector<std::string> golden_cases(const std::string& folder) {
  std::vector<std::string> cases;
  if (!fs::exists(golden_folder() / folder)) return cases;
  for (const auto& entry : fs::directory_iterator(golden_folder() / folder)) {
    const fs::path tensors = fs::path(entry.path()).replace_extension(".safetensors");
    const bool complete = folder == "metrics" || fs::exists(tensors);
    if (entry.path().extension() == ".json" && complete)
      cases.push_back(entry.path().stem().string());
  }
  std::sort(cases.begin(), cases.end());
  return cases;
}

at::Device device() {
  const char* name = std::getenv("QUENCH_TEST_DEVICE");
  return choose_device(name ? name : "cpu");
}

double device_factor() { return device().is_cpu() ? 1 : 4; }

Json read_json(const fs::path& path) { return parse_json(read_file(path)); }

Json attention_section(const Json& flags) {
  Json softmax = {{"type", "softmax"}};
  const std::string name = flags.value("attn_softmax", "vanilla");
  if (!flags.value("alpha", Json()).is_null()) {
    softmax = {{"type", "clipped"}, {"alpha", flags.at("alpha")}};
  } else if (name != "vanilla") {
    const size_t colon = name.find(':');
    softmax = {{"type", "clipped"},
               {"gamma", std::stod(name.substr(8, colon - 8))},
               {"zeta", std::stod(name.substr(colon + 1))}};
  }
  const std::string type = flags.value("attn_gate_type", "none");
  const double init = flags.value("attn_gate_init", 0.5);
  Json gate = {{"type", "none"}};
  if (type == "unconditional_per_head") {
    gate = {{"type", "unconditional"}};
  } else if (type != "none") {
    if (flags.value("attn_gate_linear_all_features", false)) {
      gate = {{"type", "all_heads"}};
    } else if (flags.value("attn_gate_mlp", false) || flags.value("attn_gate_mlp2", false)) {
      gate = {{"type", "mlp"}};
      if (flags.value("attn_gate_mlp2", false))
        gate["hidden_size"] = 16;  // d_head of every golden model
    } else {
      gate = {{"type", "linear"}, {"init", init}};
    }
    if (type == "conditional_per_head" && gate.at("type") != "all_heads")
      gate["granularity"] = "per_head";
    if (flags.value("fine_tuning", false)) gate["output_scale"] = 1 / init;
  }
  return {{"softmax", softmax}, {"gate", gate}};
}

Pretrained make_model(const Json& hugging_face, const Json& attention, int64_t max_seq_length,
                      const std::map<std::string, at::Tensor>& weights) {
  const TemporaryDirectory folder;
  Json config = hugging_face;
  config["quench"] = {{"attention", attention}, {"max_seq_length", max_seq_length}};
  write_file_atomically(folder.path() / "config.json", dump(config));
  write_safetensors(folder.path() / "model.safetensors", {weights.begin(), weights.end()});
  return load_pretrained(folder.path().string());
}

Pretrained calm_model(const std::string& family, const std::string& variant) {
  const Json facts = read_json(golden_folder() / family / (variant + ".json"));
  const fs::path calm = golden_folder() / "calm";
  std::map<std::string, at::Tensor> weights =
      read_safetensors(calm / (family + "_weights.safetensors"));
  const fs::path gates = calm / (family + "_" + variant + "_gates.safetensors");
  if (fs::exists(gates))
    for (const auto& [name, tensor] : read_safetensors(gates)) weights[name] = tensor;
  return make_model(facts.at("config"), attention_section(facts.at("attention")),
                    facts.at("max_seq_length_for_alpha").get<int64_t>(), weights);
}

BatchSourcePtr make_source(const fs::path& file, const std::string& prefix) {
  const TemporaryDirectory folder;
  std::vector<std::pair<std::string, at::Tensor>> tensors;
  for (const auto& [name, tensor] : read_safetensors(file))
    if (name.starts_with(prefix)) tensors.emplace_back(name.substr(prefix.size()), tensor);
  write_safetensors(folder.path() / "samples.safetensors", tensors);
  return open_tensors((folder.path() / "samples.safetensors").string()).source;
}

Batch make_batch(const std::map<std::string, at::Tensor>& tensors, const std::string& prefix) {
  const auto take = [&](const std::string& name, at::ScalarType dtype) {
    const auto found = tensors.find(prefix + name);
    return found == tensors.end() ? at::Tensor() : found->second.to(dtype);
  };
  Batch batch;
  batch.input_ids = take("input_ids", at::kLong);
  batch.attention_mask = take("attention_mask", at::kBool);
  batch.token_type_ids = take("token_type_ids", at::kLong);
  batch.labels = take("labels", at::kLong);
  batch.pixel_values = take("pixel_values", at::kFloat);
  return batch;
}

double max_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kCPU, at::kDouble) - b.to(at::kCPU, at::kDouble)).abs().max().item<double>();
}

TemporaryDirectory::TemporaryDirectory() {
  std::string pattern = (fs::temp_directory_path() / "quench-test-XXXXXX").string();
  if (!mkdtemp(pattern.data())) throw std::runtime_error("cannot make a temporary folder");
  path_ = pattern;
}

TemporaryDirectory::~TemporaryDirectory() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

}  // namespace quench::testing
