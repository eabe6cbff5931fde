#include "report/table.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdio>
#include <numeric>
#include <string_view>

#include "base/error.h"
#include "base/text.h"

namespace quench {
namespace {

using Row = std::vector<std::string>;

// `cell` on one line, in which each `|` becomes `bar`.
std::string to_one_line(std::string_view cell, std::string_view bar) {
  std::string line;
  for (const char c : cell) {
    if (c == '|') {
      line += bar;
    } else {
      line += c == '\n' ? ' ' : c;
    }
  }
  return line;
}

// The column names and then the rows.
std::vector<Row> lines_of_cells(const Table& table, std::string_view bar) {
  std::vector<Row> lines(1);
  for (const Column& column : table.columns) lines[0].push_back(to_one_line(column.name, bar));
  for (const Row& row : table.rows) {
    check(row.size() == table.columns.size(), "table '", table.title, "': a row has ", row.size(),
          " cells for ", table.columns.size(), " columns");
    Row& line = lines.emplace_back();
    for (const std::string& cell : row) line.push_back(to_one_line(cell, bar));
  }
  return lines;
}

std::vector<size_t> column_widths(const std::vector<Row>& lines, size_t least) {
  std::vector<size_t> widths(lines[0].size(), least);
  for (const Row& line : lines) {
    for (size_t i = 0; i < line.size(); ++i) {
      widths[i] = std::max(widths[i], display_width(line[i]));
    }
  }
  return widths;
}

std::string padded(const std::string& cell, size_t width, Align align) {
  const std::string padding(width - display_width(cell), ' ');
  return align == Align::kRight ? padding + cell : cell + padding;
}

std::string repeated(std::string_view text, size_t count) {
  std::string result;
  for (size_t i = 0; i < count; ++i) result += text;
  return result;
}

std::string formatted(double value, double magnitude, int digits) {
  char text[64];
  if (magnitude >= 1e7) {
    std::snprintf(text, sizeof text, "%.*e", digits, value);
  } else {
    const int decimals = magnitude >= 1000 ? 0 : magnitude >= 100 ? std::min(digits, 1) : digits;
    std::snprintf(text, sizeof text, "%.*f", decimals, value);
  }
  return text;
}

}  // namespace

std::string to_text(const Table& table) {
  const std::vector<Row> lines = lines_of_cells(table, "|");
  const std::vector<size_t> widths = column_widths(lines, 0);
  std::string text = table.title.empty() ? "" : table.title + "\n\n";
  for (size_t row = 0; row < lines.size(); ++row) {
    std::string line;
    std::string rule;
    for (size_t i = 0; i < widths.size(); ++i) {
      line += (i > 0 ? " │ " : "") + padded(lines[row][i], widths[i], table.columns[i].align);
      rule += (i > 0 ? "─┼─" : "") + repeated("─", widths[i]);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + "\n";
    if (row == 0) text += rule + "\n";
  }
  return text;
}

std::string to_markdown(const Table& table) {
  const std::vector<Row> lines = lines_of_cells(table, "\\|");
  const std::vector<size_t> widths = column_widths(lines, 3);
  std::string text = table.title.empty() ? "" : "**" + table.title + "**\n\n";
  for (size_t row = 0; row < lines.size(); ++row) {
    std::string line = "|";
    std::string rule = "|";
    for (size_t i = 0; i < widths.size(); ++i) {
      const Align align = table.columns[i].align;
      line += " " + padded(lines[row][i], widths[i], align) + " |";
      rule += " " + std::string(widths[i] - 1, '-') + (align == Align::kRight ? ":" : "-") + " |";
    }
    text += line + "\n";
    if (row == 0) text += rule + "\n";
  }
  return text;
}

std::string mean_std(std::span<const double> values, int digits) {
  if (values.empty()) return "-";
  const auto n = static_cast<double>(values.size());
  const double mean = std::accumulate(values.begin(), values.end(), 0.0) / n;
  double squares = 0;
  for (const double value : values) squares += (value - mean) * (value - mean);
  const double deviation = values.size() > 1 ? std::sqrt(squares / (n - 1)) : 0;
  if (!std::isfinite(mean) || !std::isfinite(deviation)) return "failed";
  const double magnitude = std::max(std::abs(mean), deviation);
  const std::string text = formatted(mean, magnitude, digits);
  return values.size() > 1 ? text + " ± " + formatted(deviation, magnitude, digits) : text;
}

}  // namespace quench
