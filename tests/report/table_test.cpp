#include "report/table.h"

#include <gtest/gtest.h>

#include <limits>

#include "base/error.h"

namespace quench {
namespace {

Table example() {
  return {"Table 2",
          {{"method"}, {"FP ppl", Align::kRight}, {"inf norm", Align::kRight}},
          {{"vanilla", "4.49 ± 0.01", "735 ± 55"}, {"clipped γ", "4.39", "21.5"}}};
}

std::string mean_std_of(std::vector<double> values, int digits) { return mean_std(values, digits); }

TEST(Table, TextIsAlignedWhateverTheBytesOfItsCells) {
  EXPECT_EQ(to_text(example()),
            "Table 2\n"
            "\n"
            "method    │      FP ppl │ inf norm\n"
            "──────────┼─────────────┼─────────\n"
            "vanilla   │ 4.49 ± 0.01 │ 735 ± 55\n"
            "clipped γ │        4.39 │     21.5\n");
}

TEST(Table, TextHasNoTrailingSpaces) {
  EXPECT_EQ(to_text({"", {{"name"}, {"note"}}, {{"a", "longer note"}, {"b", ""}}}),
            "name │ note\n"
            "─────┼────────────\n"
            "a    │ longer note\n"
            "b    │\n");
}

TEST(Table, MarkdownCarriesTheAlignment) {
  EXPECT_EQ(to_markdown(example()),
            "**Table 2**\n"
            "\n"
            "| method    |      FP ppl | inf norm |\n"
            "| --------- | ----------: | -------: |\n"
            "| vanilla   | 4.49 ± 0.01 | 735 ± 55 |\n"
            "| clipped γ |        4.39 |     21.5 |\n");
}

TEST(Table, CellsCannotBreakTheTable) {
  const Table table{"", {{"x"}}, {{"a|b\nc"}}};
  EXPECT_EQ(to_markdown(table), "| x      |\n| ------ |\n| a\\|b c |\n");
  EXPECT_EQ(to_text(table), "x\n─────\na|b c\n");
}

TEST(Table, RowOfAnotherLengthIsAnError) {
  EXPECT_THROW(to_text({"t", {{"a"}, {"b"}}, {{"1"}}}), Error);
  EXPECT_THROW(to_markdown({"t", {{"a"}}, {{"1", "2"}}}), Error);
}

TEST(MeanStd, IsTheSampleStandardDeviation) {
  EXPECT_EQ(mean_std_of({1, 2, 3}, 2), "2.00 ± 1.00");
  EXPECT_EQ(mean_std_of({4.48, 4.49, 4.50}, 2), "4.49 ± 0.01");
}

TEST(MeanStd, OneValueStandsAlone) {
  EXPECT_EQ(mean_std_of({4.487}, 2), "4.49");
  EXPECT_EQ(mean_std_of({}, 2), "-");
}

TEST(MeanStd, LargeNumbersLoseTheirDecimals) {
  EXPECT_EQ(mean_std_of({55.25, 55.35}, 2), "55.30 ± 0.07");
  EXPECT_EQ(mean_std_of({735.04}, 2), "735.0");
  EXPECT_EQ(mean_std_of({248, 2340}, 2), "1294 ± 1479");
  EXPECT_EQ(mean_std_of({3.2e30}, 2), "3.20e+30");
}

TEST(MeanStd, SaysWhenARunFailed) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(mean_std_of({4.5, nan}, 2), "failed");
  EXPECT_EQ(mean_std_of({infinity}, 2), "failed");
}

}  // namespace
}  // namespace quench
