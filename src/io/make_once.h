// What several processes may want at a time, and one of them makes.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

namespace quench {

// Calls `make`, which makes `path`, unless `find` says that it is there; of processes that want it
// at a time one makes it, and the others wait and find it (`on_wait` is told for whom). Cleans up
// what killed ones left beside it. Throws Interrupted (base/signals.h) while it waits, and what
// `find` and `make` throw.
void make_once(const std::filesystem::path& path, const std::function<bool()>& find,
               const std::function<void(const std::string& holder)>& on_wait,
               const std::function<void()>& make);

}  // namespace quench
