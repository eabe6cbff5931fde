#include "config/steps.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "config/fields.h"

namespace quench::config {
namespace {

struct Schedule {
  Steps warmup = 10;
  std::optional<Steps> length;
};

void describe(Fields& f, Schedule& c) {
  f("warmup", c.warmup, "steps of warm-up", at_least(2));
  f("length", c.length, "steps in all", greater_than(0));
}

Schedule read_text(const std::string& text) {
  Schedule schedule;
  read(parse(text, {"a.yaml", 1}), schedule);
  return schedule;
}

std::string error_of(const std::string& text) {
  try {
    read_text(text);
  } catch (const UsageError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Steps, AreANumberOrEpochs) {
  Schedule schedule = read_text("{warmup: 2.5 epochs, length: 300}");
  schedule.warmup.resolve(1001, 10);
  schedule.length->resolve(1001, 10);
  EXPECT_EQ(schedule.warmup, 251) << "250.25 rounded up";
  EXPECT_EQ(*schedule.length, 300);
  EXPECT_FALSE(read_text("{length: null}").length);
}

TEST(Steps, RoundUpOnlyWhatIsMore) {
  for (const auto& [epochs, samples, batch, expected] :
       {std::tuple{1.1, 200, 4, 55}, {2.2, 200, 4, 110}, {27., 14, 3, 126}, {0.3, 10, 3, 1}}) {
    Steps steps = Steps::of_epochs(epochs);
    steps.resolve(samples, batch);
    EXPECT_EQ(steps, expected) << epochs;
  }
  Steps endless = Steps::of_epochs(1e19);
  EXPECT_THROW(endless.resolve(200, 4), UsageError);
}

TEST(Steps, AreNotKnownInEpochsBeforeTheDataAre) {
  const Steps steps = Steps::of_epochs(3);
  EXPECT_THROW(static_cast<void>(static_cast<int64_t>(steps)), Error);
}

TEST(Steps, AreWrittenAsTheyWereGiven) {
  const Json written = write(read_text("{warmup: 20 epochs, length: 1 epoch}"));
  EXPECT_EQ(dump(written), R"({"warmup":"20 epochs","length":"1 epoch"})");
  EXPECT_EQ(write(read_text(dump(written))), written);
  EXPECT_EQ(dump(write(Schedule())), R"({"warmup":10,"length":null})");
}

TEST(Steps, AnythingElseIsNamed) {
  const std::string expected =
      "a.yaml:1: warmup: expected a number of steps or 'N epochs', >= 2, got ";
  for (const char* wrong :
       {"20 hours", "epochs", "-1 epochs", "0 epochs", "nan epochs", "20epochs"})
    EXPECT_EQ(error_of(concat("warmup: ", wrong)), expected + '"' + wrong + '"');
  EXPECT_EQ(error_of("warmup: 1"), expected + "1");
  EXPECT_EQ(error_of("warmup: 2.5"), expected + "2.5");
  EXPECT_EQ(error_of("warmup: 1.5 epochs"), expected + "\"1.5 epochs\"");
}

TEST(Steps, HaveASchemaOfBothForms) {
  const Json properties = schema<Schedule>()["properties"];
  EXPECT_EQ(properties["warmup"]["type"], Json({"integer", "string"}));
  EXPECT_EQ(properties["warmup"]["minimum"], 2);
  EXPECT_EQ(properties["warmup"]["pattern"], R"(^[0-9]+(\.[0-9]+)?(e[0-9]+)? epochs?$)");
  EXPECT_EQ(properties["length"]["type"], Json({"integer", "string", "null"}));
}

}  // namespace
}  // namespace quench::config
