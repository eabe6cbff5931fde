#include "base/text.h"

#include <gtest/gtest.h>

#include <limits>

namespace quench {
namespace {

TEST(FormatDuration, ReadsLikeAClock) {
  EXPECT_EQ(format_duration(0), "0:00");
  EXPECT_EQ(format_duration(7.4), "0:07");
  EXPECT_EQ(format_duration(59.6), "1:00");
  EXPECT_EQ(format_duration(192), "3:12");
  EXPECT_EQ(format_duration(3599.7), "1:00:00");
  EXPECT_EQ(format_duration(3765), "1:02:45");
  EXPECT_EQ(format_duration(360000), "100:00:00");
}

TEST(FormatDuration, SaysWhenItDoesNotKnow) {
  EXPECT_EQ(format_duration(std::numeric_limits<double>::infinity()), "?");
  EXPECT_EQ(format_duration(std::numeric_limits<double>::quiet_NaN()), "?");
  EXPECT_EQ(format_duration(-3), "0:00");
}

TEST(FormatCount, KeepsThreeDigits) {
  EXPECT_EQ(format_count(0), "0");
  EXPECT_EQ(format_count(0.4234), "0.423");
  EXPECT_EQ(format_count(12.34), "12.3");
  EXPECT_EQ(format_count(999), "999");
  EXPECT_EQ(format_count(18234), "18.2k");
  EXPECT_EQ(format_count(109.5e6), "110M");
  EXPECT_EQ(format_count(1.5e9), "1.5G");
}

TEST(FormatCount, RoundsIntoTheNextUnit) {
  EXPECT_EQ(format_count(999.7), "1k");
  EXPECT_EQ(format_count(999949), "1M");
  EXPECT_EQ(format_count(999499), "999k");
}

TEST(DisplayWidth, CountsCodePoints) {
  EXPECT_EQ(display_width("4.49 ± 0.01"), 11u);
  EXPECT_EQ(display_width("γ = −0.025"), 10u);
  EXPECT_EQ(display_width(""), 0u);
}

TEST(TruncateToWidth, CutsBetweenCodePoints) {
  EXPECT_EQ(truncate_to_width("a ± b", 5), "a ± b");
  EXPECT_EQ(truncate_to_width("a ± b", 4), "a ±…");
  EXPECT_EQ(truncate_to_width("a ± b", 3), "a …");
  EXPECT_EQ(truncate_to_width("a ± b", 0), "");
}

}  // namespace
}  // namespace quench
