// quench sweep.
#include "tests/cli/cli_test.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

class CliSweep : public CliTest {
 protected:
  void write_sweep(const std::string& second_row) const {
    folder_.write("sweep.yaml",
                  "title: two rows\n"
                  "base: tiny.yaml\n"
                  "rows:\n"
                  "  - {name: 'Clipped (4)', set: [attention.softmax.type=clipped, "
                  "attention.softmax.alpha=4]}\n"
                  "  - " +
                      second_row +
                      "\n"
                      "seeds: [1]\n"
                      "ptq: [{name: W8A8, set: []}]\n"
                      "ptq_seeds: [1, 2]\n");
  }
  // Every file but the table's and when it was written.
  std::map<std::string, fs::file_time_type> files() const {
    std::map<std::string, fs::file_time_type> found;
    for (const auto& entry : fs::recursive_directory_iterator(folder_ / "out"))
      if (entry.is_regular_file() && entry.path().parent_path() != folder_ / "out")
        found[entry.path().string()] = fs::last_write_time(entry.path());
    return found;
  }
};

TEST_F(CliSweep, FillsATableAndDoesNothingTwice) {
  write_sweep("{name: Gated, set: [attention.gate.type=linear]}");
  const std::string table = done({"sweep", "sweep.yaml", "--output", "out"});
  for (const char* part : {"two rows", "Clipped (4)", "Gated", "W8A8"})
    EXPECT_NE(table.find(part), std::string::npos) << table;
  EXPECT_EQ(folder_.read("out/table.txt"), table);
  EXPECT_NE(folder_.read("out/table.md").find("| Clipped (4)"), std::string::npos);

  const Json result = json("out/sweep.json");
  EXPECT_TRUE(result.at("failed").empty());
  ASSERT_EQ(result.at("rows").size(), 2u);
  const Json& row = result.at("rows")[0];
  EXPECT_EQ(row.at("name"), "Clipped (4)");
  EXPECT_EQ(row.at("perplexity")[0], json("out/clipped-4-seed1/eval.json").at("perplexity"));
  EXPECT_EQ(row.at("max_inf_norm")[0],
            json("out/clipped-4-seed1/eval.json").at("outliers").at("max_inf_norm"));
  const Json& quantized = row.at("quantized").at("W8A8");
  ASSERT_EQ(quantized.size(), 2u);
  for (size_t i = 0; i < 2; ++i)
    EXPECT_EQ(quantized[i], json(concat("out/clipped-4-seed1/ptq/w8a8-seed", i + 1, ".json"))
                                .at("quantized")
                                .at("perplexity"));
  EXPECT_EQ(json("out/clipped-4-seed1/ptq/w8a8-seed1.json").at("full_precision"),
            json("out/clipped-4-seed1/eval.json"));
  EXPECT_EQ(json(newest("out/gated-seed1") + "/config.json")
                .at("quench")
                .at("attention")
                .at("gate")
                .at("type"),
            "linear");

  const auto before = files();
  const Outcome again = quench({"sweep", "sweep.yaml", "--output", "out"});
  EXPECT_EQ(again.status, 0) << again.err;
  EXPECT_EQ(again.out, table);
  EXPECT_NE(again.err.find("trained before"), std::string::npos) << again.err;
  EXPECT_EQ(files(), before);
  EXPECT_EQ(parse_json(done({"sweep", "sweep.yaml", "--output", "out", "--json"})), result);
}

TEST_F(CliSweep, OtherPtqSettingsAreDoneAgainAndOtherRunsRefused) {
  write_sweep("{name: Gated, set: [attention.gate.type=linear]}");
  done({"sweep", "sweep.yaml", "--output", "out"});
  const auto before = files();
  const std::string ptq = folder_ / "out/gated-seed1/ptq/w8a8-seed1.json";
  done({"sweep", "sweep.yaml", "--output", "out", "--set", "ptq.weights.estimator=mse"});
  for (const auto& [file, time] : files())
    EXPECT_EQ(time == before.at(file), fs::path(file).parent_path().filename() != "ptq") << file;
  EXPECT_EQ(
      json("out/gated-seed1/ptq/w8a8-seed1.json").at("settings").at("weights").at("estimator"),
      "mse");

  const auto done_before = files();
  const Outcome other =
      quench({"sweep", "sweep.yaml", "--output", "out", "--set", "train.steps=5"});
  EXPECT_EQ(other.status, 2);
  EXPECT_EQ(files(), done_before);  // the table, too
  EXPECT_NE(other.err.find("holds a run of another config"), std::string::npos) << other.err;
  EXPECT_EQ(newest("out/gated-seed1"), "out/gated-seed1/checkpoints/step-00000004");
}

TEST_F(CliSweep, ABaselineAddsWhatRowsCostAndWhereTheyDiffer) {
  folder_.write(
      "sweep.yaml",
      "base: tiny.yaml\n"
      "rows:\n"
      "  - {name: Plain, set: [eval.sinks=true]}\n"
      "  - {name: Gated, set: [attention.gate.type=linear, eval.sinks=true]}\n"
      "seeds: [1, 2]\n"
      "ptq: [{name: W8A8}, {name: W4A4, set: [ptq.weights.bits=4, ptq.activations.bits=4]}]\n"
      "ptq_seeds: [1]\n"
      "bits: [8, 3]\n"
      "baseline: Plain\n");
  const std::string table = done({"sweep", "sweep.yaml", "--output", "out", "--set",
                                  "train.log_every=1", "--set", "train.eval_every=2"});
  for (const char* part : {"loss at equal time", "max/median", "sink rate %", "bits 1%", "bits 10%",
                           "extra parameters", "ms a step", "W4A4"})
    EXPECT_NE(table.find(part), std::string::npos) << part << "\n" << table;
  const Json rows = json("out/sweep.json").at("rows");
  for (const Json& row : rows) {
    for (const char* list : {"sink_rate", "max_to_median", "parameters", "step_seconds"})
      EXPECT_EQ(row.at(list).size(), 2u) << list;
    ASSERT_EQ(row.at("bits").at("W8A8").size(), 2u);
    EXPECT_FALSE(row.at("bits").contains("W4A4"));
    EXPECT_EQ(row.at("bits").at("W8A8")[0].at("bits")[1].at("bits"), 3);
  }
  EXPECT_GT(rows[1].at("parameters")[0], rows[0].at("parameters")[0]);
  const auto before = files();
  done({"sweep", "sweep.yaml", "--output", "out", "--set", "train.log_every=1", "--set",
        "train.eval_every=2"});
  EXPECT_EQ(files(), before);

  folder_.write("wrong.yaml", "base: tiny.yaml\nrows: [{name: Plain}]\nbaseline: plain\n");
  const Outcome outcome = quench({"sweep", "wrong.yaml", "--output", "out"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("baseline"), std::string::npos) << outcome.err;
}

TEST_F(CliSweep, WithoutOutliersItsTableHasNone) {
  write_sweep("{name: Plain, set: [eval.outliers=false]}");
  const std::string table = done({"sweep", "sweep.yaml", "--output", "out"});
  EXPECT_NE(table.find(" - "), std::string::npos) << table;
  const Json rows = json("out/sweep.json").at("rows");
  EXPECT_EQ(rows[0].at("max_inf_norm").size(), 1u);
  EXPECT_TRUE(rows[1].at("max_inf_norm").empty());
  EXPECT_EQ(rows[1].at("quantized").at("W8A8").size(), 2u);
}

TEST_F(CliSweep, AFailingCellIsReportedAndDoesNotEndIt) {
  folder_.write("sweep.yaml",
                "base: tiny.yaml\n"
                "rows: [{name: Hot, set: [optimizer.learning_rate=1e30]}, {name: Cold, set: []}]\n"
                "seeds: [1]\n"
                "ptq: [{name: W8A8, set: []}]\n"
                "ptq_seeds: [1]\n");
  const Outcome outcome = quench({"sweep", "sweep.yaml", "--output", "out"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("Hot, seed 1: the loss of step 2 is not finite"), std::string::npos)
      << outcome.err;
  EXPECT_NE(outcome.out.find("Cold"), std::string::npos);
  const Json result = json("out/sweep.json");
  EXPECT_EQ(result.at("failed").size(), 1u);
  EXPECT_TRUE(result.at("rows")[0].at("perplexity").empty());
  EXPECT_EQ(result.at("rows")[1].at("quantized").at("W8A8").size(), 1u);
}

TEST_F(CliSweep, AFailingSettingDoesNotTakeTheOthersWithIt) {
  folder_.write("sweep.yaml",
                "base: tiny.yaml\n"
                "rows: [{name: Row}]\n"
                "seeds: [1]\n"
                "ptq:\n"
                "  - {name: Bad, set: ['ptq.overrides=[{match: nothing, bits: 4}]']}\n"
                "  - {name: Good}\n"
                "ptq_seeds: [1, 2]\n");
  const Outcome outcome = quench({"sweep", "sweep.yaml", "--output", "out"});
  EXPECT_EQ(outcome.status, 1);
  EXPECT_NE(outcome.err.find("Row, seed 1, Bad, seed 2: "), std::string::npos) << outcome.err;
  const Json result = json("out/sweep.json");
  EXPECT_EQ(result.at("failed").size(), 2u);
  EXPECT_TRUE(result.at("rows")[0].at("quantized").at("Bad").empty());
  EXPECT_EQ(result.at("rows")[0].at("quantized").at("Good").size(), 2u);
}

TEST_F(CliSweep, ADivergedRunStaysAFailure) {
  folder_.write("sweep.yaml",
                "base: tiny.yaml\n"
                "rows: [{name: Hot, set: [optimizer.learning_rate=1e30, train.steps=1]}]\n"
                "ptq: []\n");
  for (int run = 0; run < 2; ++run) {
    const Outcome outcome = quench({"sweep", "sweep.yaml", "--output", "out"});
    EXPECT_EQ(outcome.status, 1);
    EXPECT_NE(outcome.err.find("loss is not finite"), std::string::npos) << outcome.err;
  }
}

TEST_F(CliSweep, RowsMayHaveBasesOfTheirOwn) {
  folder_.write("deep.yaml", "extends: tiny.yaml\nmodel: {num_hidden_layers: 3}\n");
  folder_.write("sweep.yaml",
                "rows: [{name: Flat, base: tiny.yaml}, {name: Deep, base: deep.yaml}]\n"
                "seeds: [1]\n"
                "ptq: []\n");
  done({"sweep", "sweep.yaml", "--output", "out"});
  EXPECT_EQ(json(newest("out/flat-seed1") + "/config.json").at("num_hidden_layers"), 2);
  EXPECT_EQ(json(newest("out/deep-seed1") + "/config.json").at("num_hidden_layers"), 3);

  folder_.write("sweep.yaml", "rows: [{name: Flat, base: tiny.yaml}, {name: Deep}]\n");
  const Outcome outcome = quench({"sweep", "sweep.yaml", "--output", "other"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("base: expected a config file"), std::string::npos) << outcome.err;
}

TEST_F(CliSweep, NamesMayNotShareAFolder) {
  write_sweep("{name: clipped-4, set: []}");
  const Outcome outcome = quench({"sweep", "sweep.yaml", "--output", "out"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("sweep.yaml:3: rows: two names"), std::string::npos) << outcome.err;
  EXPECT_FALSE(exists("out"));
}

TEST_F(CliSweep, ASeedCountsOnce) {
  write_sweep("{name: vanilla, set: []}");
  for (const char* twice : {"seeds=[1, 2, 1]", "ptq_seeds=[3, 3]"}) {
    std::string sweep = folder_.read("sweep.yaml");
    const std::string key = std::string(twice).substr(0, std::string(twice).find('='));
    const size_t line = sweep.find("\n" + key + ":") + 1;
    sweep.replace(line, sweep.find('\n', line) - line, key + ": " + (twice + key.size() + 1));
    folder_.write("sweep.yaml", sweep);
    const Outcome outcome = quench({"sweep", "sweep.yaml", "--output", "out"});
    EXPECT_EQ(outcome.status, 2);
    EXPECT_NE(outcome.err.find(key + ": expected each once"), std::string::npos) << outcome.err;
    write_sweep("{name: vanilla, set: []}");
  }
}

TEST_F(CliSweep, EveryRunIsCheckedBeforeTheFirstStarts) {
  write_sweep("{name: Typo, set: [attention.gate.type=linaer]}");
  const Outcome outcome = quench({"sweep", "sweep.yaml", "--output", "out"});
  EXPECT_EQ(outcome.status, 2);
  EXPECT_NE(outcome.err.find("attention.gate.type"), std::string::npos) << outcome.err;
  EXPECT_FALSE(exists("out"));
}

}  // namespace
}  // namespace quench
