#include "config/node.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "base/error.h"
#include "config/yaml.h"

namespace quench::config {
namespace {

namespace fs = std::filesystem;

std::string read_text(const fs::path& path, const std::string& asked_by) {
  std::error_code reason;
  const fs::file_status status = fs::status(path, reason);
  if (status.type() == fs::file_type::not_found)
    fail_usage(asked_by, "there is no config file '", path.string(), "'");
  if (reason)
    fail_usage(asked_by, "cannot read the config file '", path.string(), "': ", reason.message());
  const UsageError unreadable(
      concat(asked_by, "cannot read the config file '", path.string(), "'"));
  if (fs::is_directory(status)) throw unreadable;
  std::ifstream in(path, std::ios::binary);
  std::string text(std::istreambuf_iterator<char>(in), {});
  if (!in) throw unreadable;
  return text;
}

// `above` holds the files of the chain that led here; `asked_by` is the start of an error about
// `path`.
Node load_chain(const fs::path& path, std::vector<fs::path> above, const std::string& asked_by) {
  std::error_code unreadable;  // which read_text() tells
  const fs::path identity = fs::weakly_canonical(path, unreadable);
  if (!unreadable && std::find(above.begin(), above.end(), identity) != above.end())
    fail_usage(asked_by, "'", path.string(), "' extends itself in a circle");
  above.push_back(identity);

  Node node = parse(read_text(path, asked_by), {path.string(), 1});
  if (!node.is_map() && !node.is_null())
    fail_usage(node.place.to_string() + ": expected a map of sections, such as 'model:'");
  node.kind = Node::Kind::kMap;
  const Node* extends = node.find("extends");
  if (!extends) return node;

  const std::string here = extends->place.to_string() + ": extends: ";
  if (!extends->scalar.is_string()) fail_usage(here + "expected the path of a config file");
  const fs::path below = path.parent_path() / extends->scalar.get<std::string>();
  Node base = load_chain(below.lexically_normal(), above, here);
  std::erase_if(node.entries, [](const auto& entry) { return entry.first == "extends"; });
  merge(base, node);
  base.place = node.place;
  return base;
}

bool changes_type(const Node& base, const Node& overlay) {
  const Node* before = base.find("type");
  const Node* after = overlay.find("type");
  return before && after && before->scalar != after->scalar;
}

Node map_of(const std::string& key, const Node& value) {
  return {.kind = Node::Kind::kMap, .place = value.place, .entries = {{key, value}}};
}

Node& item_at(Node& list, const std::string& index, const Place& place) {
  size_t i = 0;
  const auto [end, status] = std::from_chars(index.data(), index.data() + index.size(), i);
  if (status != std::errc() || *end != '\0' || i >= list.items.size())
    fail_usage(place.to_string(), ": expected an index below ", list.items.size(),
               " into the list, got '", index, "'");
  return list.items[i];
}

void set_at(Node& node, const std::vector<std::string>& keys, size_t depth, const Node& value) {
  const bool last = depth + 1 == keys.size();
  if (node.is_list()) {
    Node& item = item_at(node, keys[depth], value.place);
    if (last)
      merge(item, value);
    else
      set_at(item, keys, depth + 1, value);
  } else if (Node* child = node.find(keys[depth]); child && !last) {
    set_at(*child, keys, depth + 1, value);
  } else {
    Node overlay = value;
    for (size_t i = keys.size(); i-- > depth;) overlay = map_of(keys[i], overlay);
    merge(node, overlay);
  }
}

}  // namespace

std::string Place::to_string() const { return line == 0 ? file : concat(file, ":", line); }

const Node* Node::find(const std::string& key) const {
  for (const auto& [name, value] : entries)
    if (name == key) return &value;
  return nullptr;
}

Node* Node::find(const std::string& key) {
  return const_cast<Node*>(static_cast<const Node*>(this)->find(key));
}

Node load(const std::string& path) { return load_chain(path, {}, ""); }

void merge(Node& base, const Node& overlay) {
  if (!base.is_map() || !overlay.is_map()) {
    base = overlay;
    return;
  }
  if (changes_type(base, overlay)) {
    base.place = overlay.place;
    std::erase_if(base.entries, [](const auto& entry) { return entry.second.place.line != 0; });
  }
  for (const auto& [key, value] : overlay.entries) {
    if (Node* below = base.find(key))
      merge(*below, value);
    else
      base.entries.emplace_back(key, value);
  }
}

void set(Node& root, const std::string& assignment) {
  const size_t equals = assignment.find('=');
  const std::string key = assignment.substr(0, equals);
  const std::vector<std::string> keys = split_key(key);
  constexpr size_t kDeepest = 100;
  if (equals == std::string::npos || keys.size() > kDeepest ||
      std::find(keys.begin(), keys.end(), "") != keys.end())
    fail_usage("--set ", assignment, ": expected KEY=VALUE, as in model.hidden_size=64");
  const Node value = parse(assignment.substr(equals + 1), {"--set " + key, 0});
  set_at(root, keys, 0, value);
}

std::vector<std::string> split_key(const std::string& key) {
  std::vector<std::string> parts(1);
  for (const char c : key) {
    if (c == '.')
      parts.emplace_back();
    else
      parts.back() += c;
  }
  return parts;
}

}  // namespace quench::config
