// Work in a process of its own, for libraries that end the process on input that they do not like.
#pragma once

#include <functional>
#include <string>

#include "base/error.h"

namespace quench {

// The child ended before its work: the message is what it wrote to stderr last.
class ChildEnded : public Error {
 public:
  using Error::Error;
};

// What `work` returns, computed in a child of this process, which sees a copy of everything. Throws
// Error with the message of one that `work` threw, ChildEnded, and Interrupted (base/signals.h)
// when a signal asks to stop; then the child is gone. It does not outlive this process either.
std::string in_child_process(const std::function<std::string()>& work);

}  // namespace quench
