#include "models/names.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <functional>
#include <set>

#include "base/error.h"
#include "base/log.h"
#include "base/text.h"

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

// Of DistributedDataParallel, torch.compile, FSDP and activation checkpointing.
constexpr std::string_view kWrappers[] = {"module.", "_orig_mod.", "_fsdp_wrapped_module.",
                                          "_checkpoint_wrapped_module."};

std::string without_wrappers(std::string name, std::set<std::string>& found) {
  for (size_t at = 0; at < name.size();) {
    const std::string_view rest = std::string_view(name).substr(at);
    const auto* wrapper =
        std::ranges::find_if(kWrappers, [&](std::string_view w) { return rest.starts_with(w); });
    if (wrapper != std::end(kWrappers)) {
      found.emplace(*wrapper);
      name.erase(at, wrapper->size());
    } else {
      const size_t dot = rest.find('.');
      at = dot == rest.npos ? name.size() : at + dot + 1;
    }
  }
  return name;
}

// "net." if each name begins so and, without it, some begin as the model's own do; else "".
std::string common_prefix(const std::map<std::string, at::Tensor>& tensors,
                          const ModelTraits& traits) {
  if (tensors.empty()) return "";
  const std::string& first = tensors.begin()->first;
  const std::string prefix = first.substr(0, first.find('.') + 1);
  const auto begins_as_ours = [&](const std::string& name) {
    return name.starts_with(prefix + traits.body_prefix);
  };
  const bool of_all = !prefix.empty() && std::ranges::all_of(tensors, [&](const auto& entry) {
    return entry.first.starts_with(prefix);
  });
  const bool ours =
      std::ranges::any_of(tensors, [&](const auto& entry) { return begins_as_ours(entry.first); });
  return of_all && ours ? prefix : "";
}

std::map<std::string, at::Tensor> renamed(
    const std::map<std::string, at::Tensor>& tensors,
    const std::function<std::string(const std::string&)>& rename) {
  std::map<std::string, at::Tensor> result;
  for (const auto& [theirs, tensor] : tensors) {
    const std::string name = rename(theirs);
    check(result.emplace(name, tensor).second, "two tensors of the checkpoint are ", name,
          "; one of them is called ", theirs);
  }
  return result;
}

bool same_values(const at::Tensor& a, const at::Tensor& b) {
  return a.scalar_type() == b.scalar_type() && at::equal(a, b);
}

}  // namespace

std::map<std::string, at::Tensor> unwrapped(const std::map<std::string, at::Tensor>& tensors,
                                            const ModelTraits& traits) {
  std::set<std::string> found;
  auto result =
      renamed(tensors, [&](const std::string& name) { return without_wrappers(name, found); });
  if (const std::string prefix = common_prefix(result, traits); !prefix.empty()) {
    found.insert(prefix);
    result = renamed(result, [&](const std::string& name) { return name.substr(prefix.size()); });
  }
  if (!found.empty())
    log_info("left out of the checkpoint's names, as a wrapper's: " +
             listed({found.begin(), found.end()}));
  return result;
}

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

bool is_added(const std::string& parameter) {
  return is_gate(parameter) || parameter.ends_with(".sink") || parameter.ends_with(".key_bias") ||
         parameter.ends_with(".value_bias") || parameter.find(".query_norm.") != parameter.npos ||
         parameter.find(".key_norm.") != parameter.npos;
}

Json gate_section(const std::map<std::string, at::Tensor>& tensors) {
  for (const auto& [name, tensor] : tensors) {
    if (name.ends_with(".alpha")) return {{"type", "unconditional"}};
    if (name.ends_with(".alpha.value.weight")) return {{"type", "value"}};
    if (name.ends_with(".alpha.weight"))
      return {{"type", tensor.size(0) == tensor.size(-1) ? "elementwise" : "all_heads"}};
    if (name.ends_with(".alpha.0.weight")) return {{"type", "linear"}};
    if (name.ends_with(".alpha.0.0.weight") && tensor.dim() == 2)
      return {{"type", "mlp"}, {"hidden_size", tensor.size(0)}};
  }
  return {{"type", "none"}};
}

}  // namespace quench
