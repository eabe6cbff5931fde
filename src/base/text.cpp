#include "base/text.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

namespace quench {
namespace {

bool starts_code_point(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) != 0x80; }

}  // namespace

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  const long long total = std::llround(std::max(seconds, 0.0));
  char text[40];
  if (total < 3600) {
    std::snprintf(text, sizeof text, "%lld:%02lld", total / 60, total % 60);
  } else {
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", total / 3600, total / 60 % 60,
                  total % 60);
  }
  return text;
}

std::string format_count(double count) {
  constexpr std::array suffixes{"", "k", "M", "G", "T"};
  size_t i = 0;
  // 999.5 and more would round to 1000, which has four digits.
  for (; std::abs(count) >= 999.5 && i + 1 < suffixes.size(); ++i) count /= 1000;
  char text[40];
  std::snprintf(text, sizeof text, "%.3g%s", count, suffixes[i]);
  return text;
}

std::string listed(const std::vector<std::string>& names, size_t limit) {
  std::string list;
  for (size_t i = 0; i < names.size() && i < limit; ++i) list += (i ? ", " : "") + names[i];
  if (names.size() > limit) list += " and " + std::to_string(names.size() - limit) + " more";
  return list;
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n\v\f";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == text.npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

size_t display_width(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), starts_code_point));
}

std::string truncate_to_width(std::string_view text, size_t columns) {
  if (display_width(text) <= columns) return std::string(text);
  if (columns == 0) return "";
  size_t end = 0;
  for (size_t width = 0; end < text.size(); ++end) {
    if (starts_code_point(text[end]) && width++ == columns - 1) break;
  }
  return std::string(text.substr(0, end)) + "…";
}

}  // namespace quench
