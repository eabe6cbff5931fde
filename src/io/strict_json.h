// JSON of files that others wrote.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"

namespace quench {

// Parses JSON whose objects name no key twice (of which JSON would silently drop one) and that is
// as shallow as a header of safetensors or an index of shards is, so that no error message can
// recurse without bound. Throws Error, whose message starts with `where`.
nlohmann::json parse_strictly(std::string_view text, const std::string& where);

}  // namespace quench
