// The one exception type of quench. Its message is written for the user: it names what went wrong,
// where, and what was expected. `main` prints it and nothing else.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace quench {

// Concatenates its arguments as `operator<<` writes them.
template <class... Args>
std::string concat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

// Failed while running (exit status 1).
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The user asked for something that cannot be: wrong usage or a bad config (exit status 2).
class UsageError : public Error {
 public:
  using Error::Error;
};

template <class... Args>
[[noreturn]] void fail(const Args&... args) {
  throw Error(concat(args...));
}

template <class... Args>
[[noreturn]] void fail_usage(const Args&... args) {
  throw UsageError(concat(args...));
}

// Throws Error with the concatenated message unless `condition` holds.
template <class... Args>
void check(bool condition, const Args&... args) {
  if (!condition) fail(args...);
}

}  // namespace quench
