// Text for tests: sentences of made-up words, of which some are frequent. The same on every
// machine.
#pragma once

#include <string>
#include <vector>

#include "base/random.h"

namespace quench {

inline std::vector<std::string> sample_lines(int count, uint64_t seed = 1) {
  static constexpr const char* kSyllables[] = {"ka",  "lo",  "mi",  "ne",  "ru",
                                               "sta", "ter", "ven", "dor", "ish"};
  CounterRng rng{seed};
  std::vector<std::string> words(400);
  for (std::string& word : words) {
    for (uint64_t s = 1 + rng.below(4); s > 0; --s) word += kSyllables[rng.below(10)];
  }
  std::vector<std::string> lines(count);
  for (std::string& line : lines) {
    for (uint64_t w = 3 + rng.below(12); w > 0; --w) {
      line += (line.empty() ? "" : " ") +
              words[static_cast<size_t>(400 * rng.uniform() * rng.uniform())];
    }
    line += '.';
  }
  return lines;
}

}  // namespace quench
