// What the environment tells the program.
#pragma once

#include <cstdint>
#include <string>

namespace quench {

// Replaces ${NAME} by the environment variable NAME, and ${LIBTORCH_INCLUDE} by the folder of the
// C++ headers that LibTorch ships, the text that is on every machine that runs quench. Throws
// UsageError for a name that is not set.
std::string expand_variables(const std::string& text);

// Where prepared data is kept: $QUENCH_CACHE, else $XDG_CACHE_HOME/quench, else ~/.cache/quench.
std::string cache_folder();

// Bytes of memory that the machine, and the group of processes that this one runs in (a container),
// can give without taking them from others. The largest number where nothing tells.
uint64_t available_memory();

// This machine's; "localhost" where it has none.
std::string host_name();

}  // namespace quench
