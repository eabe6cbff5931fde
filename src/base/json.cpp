#include "base/json.h"

namespace quench {

Json parse_json(std::string_view text, bool allow_exceptions) {
  return Json::parse(text, nullptr, allow_exceptions);
}

std::string dump(const Json& json, int indent) { return json.dump(indent); }

std::string dump(const nlohmann::json& json, int indent) { return json.dump(indent); }

nlohmann::json parse_indexed_json(std::string_view text) {
  return nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
}

}  // namespace quench
