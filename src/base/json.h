// JSON as quench writes it: keys keep the order in which they were inserted.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace quench {

using Json = nlohmann::ordered_json;

// parse() and dump() of the library: each file that instantiates them takes two seconds longer to
// compile. Throw its exceptions; parse_json returns a discarded value where these are not allowed.
Json parse_json(std::string_view text, bool allow_exceptions = true);
std::string dump(const Json& json, int indent = -1);
std::string dump(const nlohmann::json& json, int indent = -1);

// For objects of very many keys, each of which a Json would compare with all before it. A discarded
// value where `text` is not JSON.
nlohmann::json parse_indexed_json(std::string_view text);

}  // namespace quench
