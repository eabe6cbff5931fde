#include "base/child_process.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <iostream>

#include "base/error.h"

namespace quench {
namespace {

std::string error_of(const std::function<std::string()>& work) {
  try {
    in_child_process(work);
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(ChildProcess, ReturnsWhatItsWorkReturns) {
  const std::string large(3'000'000, 'x');
  EXPECT_EQ(in_child_process([&] { return large + std::string("\0y", 2); }),
            large + std::string("\0y", 2));
  EXPECT_EQ(in_child_process([] { return std::string(); }), "");
  int changed = 0;
  in_child_process([&] {
    changed = 1;
    return std::to_string(::getpid());
  });
  EXPECT_EQ(changed, 0) << "it has a copy";
}

TEST(ChildProcess, WhatEndsItIsAnErrorHere) {
  EXPECT_EQ(error_of([]() -> std::string { fail("a reason"); }), "a reason");
  EXPECT_EQ(error_of([]() -> std::string {
              std::cerr << "first\nlast words\n";
              std::exit(-1);
            }),
            "first last words");
  EXPECT_EQ(error_of([]() -> std::string { std::abort(); }), "it ended without a word");
  EXPECT_EQ(error_of([]() -> std::string {
              ::raise(SIGKILL);
              return "";
            }),
            "it was killed: perhaps memory did not suffice");
  EXPECT_EQ(error_of([]() -> std::string {
              std::cerr << std::string(100'000, '.') << "end";
              ::_exit(0);
            }),
            std::string(297, '.') + "end");
}

}  // namespace
}  // namespace quench
