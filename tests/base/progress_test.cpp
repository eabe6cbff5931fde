#include "base/progress.h"

#include <gtest/gtest.h>

#include <vector>

namespace quench {
namespace {

// Keeps what is shown; the test moves the clock.
struct Recorder {
  double now = 100;
  std::vector<std::string> drawn;
  std::vector<std::string> printed;

  ProgressOutput output(bool terminal) {
    return {terminal, [this] { return now; },
            [this](std::string_view line) { drawn.emplace_back(line); },
            [this](std::string_view line) { printed.emplace_back(line); }};
  }
};

TEST(FormatLine, ShowsEverything) {
  EXPECT_EQ(format_line({"train", 1200, 5000, "loss 4.123", 18234, "tokens", 192}),
            "train  1200/5000 24%  loss 4.123  18.2k tokens/s  ETA 3:12");
}

TEST(FormatLine, LeavesOutWhatIsNotKnown) {
  EXPECT_EQ(format_line({"prepare", 1200, 0, "", 10, "documents", 0}),
            "prepare  1200  10 documents/s");
  EXPECT_EQ(format_line({"eval", 0, 40, "", 0, "batches", 0}), "eval  0/40 0%");
}

TEST(FormatLine, ClaimsAHundredPercentOnlyAtTheEnd) {
  EXPECT_EQ(format_line({"eval", 399, 400, "", 0, "batches", 0}), "eval  399/400 99%");
}

TEST(Progress, RedrawsATerminalTenTimesASecond) {
  Recorder recorder;
  Progress progress("train", 1000, "steps", 1, 0, recorder.output(true));
  for (int step = 1; step <= 1000; ++step) {
    recorder.now = 100 + step / 1000.0;
    progress.update(step);
  }
  EXPECT_GE(recorder.drawn.size(), 10u);
  EXPECT_LE(recorder.drawn.size(), 11u);
  EXPECT_TRUE(recorder.printed.empty());
}

TEST(Progress, PrintsAPlainLineAtEveryTwentiethOfALongerJob) {
  Recorder recorder;
  Progress progress("train", 1000, "steps", 1, 0, recorder.output(false));
  for (int step = 1; step <= 1000; ++step) {
    recorder.now = 100 + step;
    progress.update(step);
  }
  EXPECT_EQ(recorder.printed.size(), 20u);
  EXPECT_TRUE(recorder.drawn.empty());
}

TEST(Progress, PrintsAtMostEveryTenSecondsAndAtLeastOnceAMinute) {
  Recorder recorder;
  Progress fast("fast", 20, "steps", 1, 0, recorder.output(false));
  for (int step = 1; step <= 20; ++step) {
    recorder.now = 100 + step;
    fast.update(step);
  }
  EXPECT_EQ(recorder.printed.size(), 2u);

  recorder = {};
  Progress slow("slow", 1'000'000, "steps", 1, 0, recorder.output(false));
  for (int step = 1; step <= 600; ++step) {
    recorder.now = 100 + step;
    slow.update(step);
  }
  EXPECT_EQ(recorder.printed.size(), 10u);
}

TEST(Progress, CountsUnitsWhileItStepsAndKeepsTheLastDetail) {
  Recorder recorder;
  Progress progress("train", 100, "tokens", 512, 0, recorder.output(true));
  recorder.now += 1;
  progress.update(2, "loss 4.1");
  recorder.now += 1;
  progress.update(4);
  EXPECT_EQ(recorder.drawn.back(), "train  4/100 4%  loss 4.1  1.02k tokens/s  ETA 0:48");
}

TEST(Progress, RateOfAResumedJobLeavesOutWhatWasDoneBefore) {
  Recorder recorder;
  Progress progress("train", 2000, "steps", 1, 1000, recorder.output(true));
  recorder.now += 10;
  progress.update(1020);
  EXPECT_EQ(recorder.drawn.back(), "train  1020/2000 51%  2 steps/s  ETA 8:10");
  progress.finish();
  EXPECT_EQ(recorder.printed.back(), "train  1020/2000 51%  2 steps/s  took 0:10");
}

TEST(Progress, RateForgetsASlowStart) {
  Recorder recorder;
  Progress progress("train", 10000, "steps", 1, 0, recorder.output(true));
  recorder.now += 1000;
  progress.update(1);
  for (int step = 2; step <= 401; ++step) {
    recorder.now += 0.1;
    progress.update(step);
  }
  EXPECT_NE(recorder.drawn.back().find("  10 steps/s  ETA 16:00"), std::string::npos)
      << recorder.drawn.back();
}

TEST(Progress, RateOfStepsLongerThanItsWindowIsThatOfTheLast) {
  Recorder recorder;
  Progress progress("train", 10, "steps", 1, 0, recorder.output(true));
  for (const double duration : {1000, 1000, 50}) {
    recorder.now += duration;
    progress.update(static_cast<int64_t>(recorder.drawn.size()) + 1);
  }
  EXPECT_EQ(recorder.drawn.back(), "train  3/10 30%  0.02 steps/s  ETA 5:50");
}

TEST(Progress, FinishRemovesTheLineAndPrintsOnce) {
  Recorder recorder;
  {
    Progress progress("eval", 4, "batches", 1, 0, recorder.output(true));
    recorder.now += 2;
    progress.update(4);
    progress.finish();
    progress.finish();
  }
  EXPECT_EQ(recorder.drawn.back(), "");
  ASSERT_EQ(recorder.printed.size(), 1u);
  EXPECT_EQ(recorder.printed[0], "eval  4/4 100%  2 batches/s  took 0:02");
}

TEST(Progress, AJobThatFailsLeavesNoLineBehind) {
  Recorder recorder;
  {
    Progress progress("eval", 4, "batches", 1, 0, recorder.output(true));
    progress.update(1);
  }
  EXPECT_EQ(recorder.drawn.back(), "");
  EXPECT_TRUE(recorder.printed.empty());
}

}  // namespace
}  // namespace quench
