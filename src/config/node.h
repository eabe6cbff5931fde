// A parsed config before it has types: a tree in which every value remembers where it was written,
// so that an error found much later can still name its file and line.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

namespace quench::config {

// Where a value was written. On the command line `file` is "--set KEY" and there is no line.
struct Place {
  std::string file;
  int line = 0;  // counted from 1; 0: none

  std::string to_string() const;  // "configs/a.yaml:12"
};

struct Node {
  enum class Kind { kScalar, kList, kMap };

  Kind kind = Kind::kScalar;
  Place place = {};                                        // of its key, for a value in a map
  Json scalar = {};                                        // null, bool, int64, double or string
  std::vector<Node> items = {};                            // of a list
  std::vector<std::pair<std::string, Node>> entries = {};  // of a map, in the order of the file

  bool is_null() const { return kind == Kind::kScalar && scalar.is_null(); }
  bool is_list() const { return kind == Kind::kList; }
  bool is_map() const { return kind == Kind::kMap; }

  // The value of a key of a map; null if it has none.
  const Node* find(const std::string& key) const;
  Node* find(const std::string& key);
};

// Reads a YAML or JSON file and every file below it in its chain of `extends: FILE` (relative to
// the file that says so). Throws UsageError ("file:line: ...") on a syntax error, a duplicate key,
// a missing file or a circle.
Node load(const std::string& path);

// Lays `overlay` over `base`: maps merge key by key; lists and scalars replace. A map with another
// `type` than the one below it replaces it whole, since its other keys belong to another
// alternative (but what --set gave stays, so that the order of several --set does not matter).
void merge(Node& base, const Node& overlay);

// Applies "a.b.c=VALUE", VALUE in YAML. A number in the key is an index into a list. Throws
// UsageError if the assignment is malformed or leads outside a list.
void set(Node& root, const std::string& assignment);

// The parts of "a.b.c".
std::vector<std::string> split_key(const std::string& key);

}  // namespace quench::config
