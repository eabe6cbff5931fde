#include "base/json.h"

#include "base/error.h"

namespace quench {
namespace {

// Whether lists and objects are nested deeper than what reads, copies and prints them, one call
// within the other, bears.
bool is_too_deep(std::string_view text) {
  constexpr int kDeepest = 500;
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      in_string = c != '"';
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      if (++depth > kDeepest) return true;
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return false;
}

}  // namespace

Json parse_json(std::string_view text, bool allow_exceptions) {
  if (is_too_deep(text)) {
    check(!allow_exceptions, "the JSON is nested too deeply");
    return Json::value_t::discarded;
  }
  return Json::parse(text, nullptr, allow_exceptions);
}

std::string dump(const Json& json, int indent) { return json.dump(indent); }

std::string dump(const nlohmann::json& json, int indent) { return json.dump(indent); }

nlohmann::json parse_indexed_json(std::string_view text) {
  if (is_too_deep(text)) return nlohmann::json::value_t::discarded;
  return nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
}

}  // namespace quench
