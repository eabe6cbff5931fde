#include "models/names.h"

#include <ATen/ATen.h>

#include "base/error.h"

namespace quench {
namespace {

std::string our_name(std::string name, const Spellings& spellings) {
  for (const auto& [start, prefix] : spellings.prefixes) {
    if (name.starts_with(start)) {
      name.insert(0, prefix);
      break;
    }
  }
  for (const auto& [theirs, ours] : spellings.renamed)
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

OurNames our_names(const Spellings& spellings, const std::map<std::string, at::Tensor>& tensors) {
  OurNames result;
  for (const auto& [theirs, tensor] : tensors) {
    const std::string name = our_name(theirs, spellings);
    if (is_buffer(name)) continue;
    if (starts_with_any(name, spellings.unused)) {
      result.unused.push_back(theirs);
      continue;
    }
    const bool added = result.tensors.emplace(name, tensor).second;
    check(added, "two tensors of the checkpoint are ", name, "; one of them is called ", theirs);
  }
  for (const auto& [repeated, original] : spellings.tied) {
    auto node = result.tensors.extract(std::string(repeated));
    if (node.empty()) continue;
    const auto [kept, added] = result.tensors.emplace(original, node.mapped());
    check(added || same_values(kept->second, node.mapped()), repeated, " differs from ", original,
          ", to which it must be tied");
  }
  return result;
}

bool is_gate(const std::string& parameter) {
  return parameter.ends_with(".alpha") || parameter.find(".alpha.") != parameter.npos;
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
