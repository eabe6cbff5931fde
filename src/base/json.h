// JSON as quench writes it: keys keep the order in which they were inserted.
#pragma once

#include <nlohmann/json.hpp>

namespace quench {
using Json = nlohmann::ordered_json;
}
