#include "base/environment.h"

#include <gtest/gtest.h>
#include <stdlib.h>

#include "base/error.h"

namespace quench {
namespace {

TEST(ExpandVariables, ReplacesNamesInBraces) {
  ::setenv("QUENCH_TEST_VARIABLE", "here", 1);
  EXPECT_EQ(expand_variables("a/${QUENCH_TEST_VARIABLE}/${QUENCH_TEST_VARIABLE}/*.h"),
            "a/here/here/*.h");
  EXPECT_EQ(expand_variables("$HOME/{x}"), "$HOME/{x}");
}

TEST(ExpandVariables, NamesTheMistake) {
  const auto error = [](const std::string& text) -> std::string {
    try {
      return "no error: " + expand_variables(text);
    } catch (const UsageError& error) {
      return error.what();
    }
  };
  EXPECT_EQ(error("${QUENCH_NOT_SET}/x"),
            "'${QUENCH_NOT_SET}/x': the environment variable QUENCH_NOT_SET is not set");
  EXPECT_EQ(error("a${HOME"), "'a${HOME': '${' without a closing '}'");
}

}  // namespace
}  // namespace quench
