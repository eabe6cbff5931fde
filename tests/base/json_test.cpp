#include "base/json.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace quench {
namespace {

// A stack of calls would overflow in what reads, copies and prints it.
TEST(ParseJson, RefusesWhatIsNestedTooDeeply) {
  const auto nested = [](int depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(parse_json(nested(500)).is_array());
  EXPECT_THROW(parse_json(nested(501)), Error);
  EXPECT_TRUE(parse_json(nested(1'000'000), /*allow_exceptions=*/false).is_discarded());
  EXPECT_TRUE(parse_indexed_json(nested(1'000'000)).is_discarded());
  const std::string brackets(10'000, '[');
  EXPECT_EQ(parse_json("[\"\\\"" + brackets + "\", \"\\\\\", []]").size(), 3u);
}

}  // namespace
}  // namespace quench
