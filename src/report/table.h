// Tables of results, for a terminal and for Markdown.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace quench {

enum class Align { kLeft, kRight };

struct Column {
  std::string name;
  Align align = Align::kLeft;
};

struct Table {
  std::string title;  // may be empty
  std::vector<Column> columns;
  std::vector<std::vector<std::string>> rows;  // a cell for every column
};

// Both end with a newline, and throw Error when a row has not one cell for every column.
std::string to_text(const Table& table);
std::string to_markdown(const Table& table);

// "4.49 ± 0.01": mean and sample standard deviation (n - 1) over seeds with `digits` decimals, but
// one from 100 on and none from 1000 on ("735.0 ± 55.3", "1294 ± 1046"). One value stands alone,
// none is "-", and "failed" stands for what is not finite.
std::string mean_std(std::span<const double> values, int digits);

}  // namespace quench
