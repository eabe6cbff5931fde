// The known name that a mistyped word was probably meant to be, for error messages.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace quench {

// The name in `known` with the smallest Levenshtein distance from `word`, case aside; nothing if
// even that one differs in more than a quarter of the word and one letter. The first of equals
// wins.
std::optional<std::string> nearest(const std::string& word, const std::vector<std::string>& known);

// "; did you mean 'NAME'?", or "" where nothing is near: to be appended to a message.
std::string did_you_mean(const std::string& word, const std::vector<std::string>& known);

}  // namespace quench
