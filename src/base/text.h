// Numbers and words as people read them on a terminal.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace quench {

// 7 -> "0:07", 192 -> "3:12", 3765 -> "1:02:45"; "?" where the number is not finite.
std::string format_duration(double seconds);

// Three significant digits: 0.423 -> "0.423", 18234 -> "18.2k", 1.5e9 -> "1.5G".
std::string format_count(double count);

// "a, b, c"; of more than `limit` names "a, b and 5 more".
std::string listed(const std::vector<std::string>& names, size_t limit = 1000);

// `text` without white space at its ends.
std::string_view trimmed(std::string_view text);

// Columns that UTF-8 text takes on a terminal, one a code point.
size_t display_width(std::string_view text);

// `text` cut to at most `columns` columns; "…" stands for what is gone.
std::string truncate_to_width(std::string_view text, size_t columns);

}  // namespace quench
