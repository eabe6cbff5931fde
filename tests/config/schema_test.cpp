#include <gtest/gtest.h>

#include "config/fields.h"
#include "sample.h"

namespace quench::config {
namespace {

TEST(Schema, IsAClosedObjectThatMayExtendAnother) {
  const Json s = schema<sample::Config>();
  EXPECT_EQ(s["$schema"], "https://json-schema.org/draft/2020-12/schema");
  EXPECT_EQ(s["type"], "object");
  EXPECT_EQ(s["additionalProperties"], false);
  EXPECT_EQ(s["properties"]["extends"]["type"], "string");
  EXPECT_EQ(s["properties"]["output"],
            Json({{"description", "run folder"}, {"type", "string"}, {"default", "runs"}}));
  std::vector<std::string> keys;
  for (const auto& entry : s["properties"].items()) keys.push_back(entry.key());
  EXPECT_EQ(keys, (std::vector<std::string>{"extends", "model", "softmax", "teacher", "overrides",
                                            "stack", "output", "batch_size"}));
}

TEST(Schema, SectionsAreClosedObjectsWithTypesAndRanges) {
  const Json model = schema<sample::Config>()["properties"]["model"];
  EXPECT_EQ(model["description"], "the stack");
  EXPECT_EQ(model["type"], "object");
  EXPECT_EQ(model["additionalProperties"], false);
  EXPECT_FALSE(model["properties"].contains("extends"));
  const auto expect = [&](const char* key, const char* json) {
    Json property = model["properties"][key];
    EXPECT_EQ(property.erase("description"), 1u) << key;
    EXPECT_EQ(dump(property), json);
  };
  expect("hidden_size", R"({"type":"integer","minimum":1,"default":768})");
  expect("dropout", R"({"type":"number","minimum":0,"maximum":0.5,"default":0.1})");
  expect("bias", R"({"type":"boolean","default":true})");
  expect("hidden_act", R"({"type":"string","enum":["gelu","relu"],"default":"gelu"})");
  expect("kernel",
         R"({"type":"array","items":{"type":"integer","exclusiveMinimum":0},"default":[3,3]})");
  expect("names", R"({"type":["array","null"],"items":{"type":"string"},"default":null})");
  expect("norm", R"({"type":["string","null"],"enum":["layer","rms",null],"default":null})");
}

TEST(Schema, VariantsAreOneOfTheirTypes) {
  const Json properties = schema<sample::Config>()["properties"];
  const Json& softmax = properties["softmax"];
  ASSERT_EQ(softmax["oneOf"].size(), 2u);
  const Json& exact = softmax["oneOf"][0];
  EXPECT_EQ(exact["title"], "exact");
  EXPECT_EQ(exact["description"], "the usual one");
  EXPECT_EQ(exact["properties"], Json({{"type", {{"const", "exact"}}}}));
  EXPECT_EQ(exact["required"], Json({"type"}));
  EXPECT_EQ(exact["additionalProperties"], false);
  const Json& clipped = softmax["oneOf"][1];
  EXPECT_EQ(clipped["properties"]["type"]["const"], "clipped");
  EXPECT_EQ(clipped["properties"]["alpha"]["type"], Json({"number", "null"}));
  EXPECT_FALSE(clipped.contains("required")) << "the default's type may be left out";
  EXPECT_EQ(softmax["default"], Json({{"type", "clipped"}}));

  const Json& teacher = properties["teacher"];
  ASSERT_EQ(teacher["oneOf"].size(), 3u);
  EXPECT_TRUE(teacher["oneOf"][1].contains("required"));
  EXPECT_EQ(teacher["oneOf"][2], Json({{"type", "null"}}));
  EXPECT_EQ(teacher["default"], Json());
}

TEST(Schema, ListsDescribeTheirItems) {
  const Json overrides = schema<sample::Config>()["properties"]["overrides"];
  EXPECT_EQ(overrides["type"], "array");
  EXPECT_EQ(overrides["default"], Json::array());
  EXPECT_EQ(overrides["items"]["additionalProperties"], false);
  EXPECT_EQ(overrides["items"]["properties"]["bits"]["maximum"], 16);
  EXPECT_EQ(overrides["items"]["properties"]["match"]["default"], "*");
}

TEST(Schema, ListsOfVariantsNameTheirTypes) {
  const Json stack = schema<sample::Config>()["properties"]["stack"];
  EXPECT_EQ(stack["type"], "array");
  EXPECT_EQ(stack["default"], Json::array());
  const Json& items = stack["items"]["oneOf"];
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(items[1]["properties"]["type"]["const"], "clipped");
  EXPECT_EQ(items[1]["properties"]["gamma"]["default"], 0.0);
  for (const Json& item : items) EXPECT_EQ(item["required"], Json({"type"}));
}

// A default of the struct, not of the class, is the one to show.
struct OwnDefaults {
  std::shared_ptr<sample::Softmax> softmax;
  std::vector<sample::Override> overrides = {{"x", 4}};
  std::vector<std::shared_ptr<sample::Softmax>> stack = {std::make_shared<sample::Exact>()};
  OwnDefaults() {
    auto clipped = std::make_shared<sample::Clipped>();
    clipped->gamma = -0.5;
    softmax = clipped;
  }
};
void describe(Fields& f, OwnDefaults& c) {
  f.variant("softmax", c.softmax, sample::softmax_registry(), "");
  f.list("overrides", c.overrides, "");
  f.list("stack", c.stack, sample::softmax_registry(), "");
}

TEST(Schema, ShowsTheDefaultsOfTheStruct) {
  const Json properties = schema<OwnDefaults>()["properties"];
  EXPECT_EQ(properties["softmax"]["oneOf"][1]["properties"]["gamma"]["default"], -0.5);
  EXPECT_EQ(dump(properties["overrides"]["default"]), R"([{"match":"x","bits":4}])");
  EXPECT_EQ(properties["overrides"]["items"]["properties"]["match"]["default"], "*");
  EXPECT_EQ(dump(properties["stack"]["default"]), R"([{"type":"exact"}])");
}

}  // namespace
}  // namespace quench::config
