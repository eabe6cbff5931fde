#include "models/names.h"

#include <ATen/ATen.h>

#include <string_view>

#include "base/error.h"

namespace quench {
namespace {

using Pairs = std::vector<std::pair<std::string_view, std::string_view>>;

struct Rules {
  Pairs prefixes;  // how the names of a bare model begin -> what they lack in front
  Pairs renamed;   // part of a name -> ours; after the prefix was added
  Pairs tied;      // tensor -> the parameter that it repeats
  std::vector<std::string_view> unused;  // beginnings of names
};

const std::map<std::string, Rules>& rules() {
  static const std::map<std::string, Rules> all{
      {"bert",
       {.prefixes = {{"embeddings.", "bert."}, {"encoder.", "bert."}, {"pooler.", "bert."}},
        .renamed = {{"LayerNorm.gamma", "LayerNorm.weight"}, {"LayerNorm.beta", "LayerNorm.bias"}},
        .tied = {{"cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"},
                 {"cls.predictions.decoder.bias", "cls.predictions.bias"}},
        .unused = {"bert.pooler.", "cls.seq_relationship."}}},
      {"opt",
       {.prefixes = {{"decoder.", "model."},
                     {"embed_tokens.", "model.decoder."},
                     {"embed_positions.", "model.decoder."},
                     {"project_in.", "model.decoder."},
                     {"project_out.", "model.decoder."},
                     {"layers.", "model.decoder."},
                     {"final_layer_norm.", "model.decoder."}},
        .renamed = {},
        .tied = {{"lm_head.weight", "model.decoder.embed_tokens.weight"}},
        .unused = {}}},
      {"vit",
       {.prefixes = {{"embeddings.", "vit."},
                     {"encoder.", "vit."},
                     {"layers.", "vit."},
                     {"layernorm.", "vit."},
                     {"pooler.", "vit."}},
        .renamed = {{"vit.layers.", "vit.encoder.layer."},  // names in memory of transformers 5
                    {".attention.q_proj.", ".attention.attention.query."},
                    {".attention.k_proj.", ".attention.attention.key."},
                    {".attention.v_proj.", ".attention.attention.value."},
                    {".attention.o_proj.", ".attention.output.dense."},
                    {".mlp.fc1.", ".intermediate.dense."},
                    {".mlp.fc2.", ".output.dense."}},
        .tied = {},
        .unused = {"vit.pooler.", "vit.embeddings.mask_token"}}},
  };
  return all;
}

std::string our_name(std::string name, const Rules& rules) {
  for (const auto& [start, prefix] : rules.prefixes) {
    if (name.starts_with(start)) {
      name.insert(0, prefix);
      break;
    }
  }
  for (const auto& [theirs, ours] : rules.renamed)
    if (const size_t at = name.find(theirs); at != std::string::npos)
      name.replace(at, theirs.size(), ours);
  return name;
}

// Buffers that some versions of transformers saved.
bool is_buffer(const std::string& name) {
  return name.ends_with(".position_ids") || name.ends_with(".token_type_ids");
}

bool starts_with_any(const std::string& name, const std::vector<std::string_view>& starts) {
  for (const std::string_view start : starts)
    if (name.starts_with(start)) return true;
  return false;
}

bool same_values(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && at::equal(a, b);
}

}  // namespace

OurNames our_names(const std::string& model_type,
                   const std::map<std::string, at::Tensor>& tensors) {
  const Rules& rules = quench::rules().at(model_type);
  OurNames result;
  for (const auto& [theirs, tensor] : tensors) {
    const std::string name = our_name(theirs, rules);
    if (is_buffer(name)) continue;
    if (starts_with_any(name, rules.unused)) {
      result.unused.push_back(theirs);
      continue;
    }
    const bool added = result.tensors.emplace(name, tensor).second;
    check(added, "two tensors of the checkpoint are ", name, "; one of them is called ", theirs);
  }
  for (const auto& [repeated, original] : rules.tied) {
    auto node = result.tensors.extract(std::string(repeated));
    if (node.empty()) continue;
    const auto [kept, added] = result.tensors.emplace(original, node.mapped());
    check(added || same_values(kept->second, node.mapped()), repeated, " differs from ", original,
          ", to which it must be tied");
  }
  return result;
}

Json gate_section(const std::map<std::string, at::Tensor>& tensors) {
  for (const auto& [name, tensor] : tensors) {
    if (name.ends_with(".alpha")) return {{"type", "unconditional"}};
    if (name.ends_with(".alpha.weight")) return {{"type", "all_heads"}};
    if (name.ends_with(".alpha.0.weight")) return {{"type", "linear"}};
    if (name.ends_with(".alpha.0.0.weight") && tensor.dim() == 2)
      return {{"type", "mlp"}, {"hidden_size", tensor.size(0)}};
  }
  return {{"type", "none"}};
}

}  // namespace quench
