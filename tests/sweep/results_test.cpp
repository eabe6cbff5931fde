#include "sweep/results.h"

#include <gtest/gtest.h>

#include "io/atomic_file.h"
#include "tests/io/temporary_folder.h"

namespace quench {
namespace {

class Results : public TemporaryFolder {};

TEST_F(Results, ACurveAddsUpTheTimeOfItsSteps) {
  write_file_atomically(folder_ / "metrics.jsonl",
                        "{\"step\":10,\"loss\":3,\"samples_per_second\":8}\n"  // 10 steps of 0.5 s
                        "{\"step\":10,\"eval_loss\":2.5}\n"
                        "{\"step\":20,\"loss\":2,\"samples_per_second\":4}\n"  // 10 steps of 1 s
                        "{\"step\":20,\"eval_loss\":1.5}\n");
  const TrainingCurve curve = read_training_curve(folder_, /*samples_a_step=*/4);
  EXPECT_DOUBLE_EQ(curve.seconds, 15);
  EXPECT_DOUBLE_EQ(curve.step_seconds, 1);
  EXPECT_EQ(curve.loss_at(4), std::nullopt);
  EXPECT_DOUBLE_EQ(*curve.loss_at(5), 2.5);
  EXPECT_DOUBLE_EQ(*curve.loss_at(10), 2);
  EXPECT_DOUBLE_EQ(*curve.loss_at(99), 1.5);
}

SweepTable two_rows(const std::vector<double>& a, const std::vector<double>& b) {
  SweepTable sweep;
  sweep.settings = {"W8A8"};
  sweep.baseline = "a";
  for (const auto& [name, values] : {std::pair{"a", a}, {"b", b}}) {
    RowResult& row = sweep.rows.emplace_back();
    row.name = name;
    for (size_t i = 0; i < values.size(); ++i) {
      const auto seed = static_cast<int64_t>(i);
      row.full[seed] = {values[i]};
      row.quantized["W8A8"][seed] = {values[i] + 1, values[i] + 3};
    }
  }
  return sweep;
}

// Pairs by seed: a difference that is the same in each is no noise, however far seeds are apart.
TEST_F(Results, AStarMarksWhatDiffersBeyondTheNoiseOfSeeds) {
  const std::string same = to_text(to_table(two_rows({10, 20, 30}, {11, 21.1, 30.9}), ""));
  EXPECT_NE(same.find("*"), std::string::npos) << same;
  const std::string noise = to_text(to_table(two_rows({10, 20, 30}, {12, 19, 31}), ""));
  EXPECT_EQ(noise.find("*"), std::string::npos) << noise;
  const std::string one = to_text(to_table(two_rows({10}, {12}), ""));
  EXPECT_EQ(one.find("*"), std::string::npos) << one;
}

TEST_F(Results, RowsAreSortedByTheFirstSettingWhereThereIsABaseline) {
  SweepTable sweep = two_rows({20}, {10});
  EXPECT_EQ(to_table(sweep, "").rows[0][0], "b");
  sweep.baseline.reset();
  EXPECT_EQ(to_table(sweep, "").rows[0][0], "a");
}

TEST_F(Results, LeastBitsOfSeveralSeeds) {
  SweepTable sweep = two_rows({1, 2}, {3, 4});
  const auto curve = [](const Json& least) {
    return Json{{"bits", {{{"bits", 8}, {"loss", 1.0}}, {{"bits", 6}, {"loss", 1.0}}}},
                {"bits_within", {{"1%", least}, {"10%", 6}}}};
  };
  sweep.rows[0].bits["W8A8"] = {curve(8), curve(nullptr)};
  const Table table = to_table(sweep, "");
  const std::string text = to_text(table);
  EXPECT_NE(text.find("8, > 8"), std::string::npos) << text;
}

}  // namespace
}  // namespace quench
