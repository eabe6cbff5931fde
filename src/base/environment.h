// What the environment tells the program.
#pragma once

#include <string>

namespace quench {

// Replaces ${NAME} by the environment variable NAME, and ${LIBTORCH_INCLUDE} by the folder of the
// C++ headers that LibTorch ships, the text that is on every machine that runs quench. Throws
// UsageError for a name that is not set.
std::string expand_variables(const std::string& text);

// Where prepared data is kept: $QUENCH_CACHE, else $XDG_CACHE_HOME/quench, else ~/.cache/quench.
std::string cache_folder();

// This machine's; "localhost" where it has none.
std::string host_name();

}  // namespace quench
