#include "io/strict_json.h"

#include <set>
#include <vector>

#include "base/error.h"

namespace quench {

nlohmann::json parse_strictly(std::string_view text, const std::string& where) {
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::set<std::string>> keys_of_open_objects;
  const auto inspect = [&](int depth, Event event, nlohmann::json& value) {
    check(depth <= 4, where, " is nested too deeply");
    if (event == Event::object_start) keys_of_open_objects.emplace_back();
    if (event == Event::object_end) keys_of_open_objects.pop_back();
    if (event == Event::key) {
      const auto& key = value.get_ref<const std::string&>();
      check(keys_of_open_objects.back().insert(key).second, where, " names '", key, "' twice");
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text, inspect);
  } catch (const nlohmann::json::parse_error& error) {
    fail(where, " is not valid JSON (at its byte ", error.byte, ")");
  } catch (const nlohmann::json::exception&) {
    fail(where, " is not valid JSON (a number is out of range)");
  }
}

}  // namespace quench
