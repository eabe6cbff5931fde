// Text to tree and back: the only file that knows yaml-cpp. JSON is read by the same parser, as the
// subset of YAML that it is; scalars follow the core schema of YAML 1.2 (so `no` is a string and
// 1e-4 a number).
#pragma once

#include <string>

#include "base/json.h"
#include "config/node.h"

namespace quench::config {

// Parses one document, an empty one to null. Values get the place {start.file, their line},
// or `start` itself if that has no line. Throws UsageError ("file:line: ...").
Node parse(const std::string& text, const Place& start);

// A plain (unquoted) scalar as the core schema of YAML 1.2 resolves it.
Json resolve_scalar(const std::string& text);

// Prints JSON as block YAML that parse() reads back identically, every double included.
std::string to_yaml(const Json& json);

}  // namespace quench::config
