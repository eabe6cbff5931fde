#include "config/node.h"

#include <gtest/gtest.h>

#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "config/yaml.h"

namespace quench::config {
namespace {

// A folder of config files, removed at the end; places in messages are relative to it.
class ConfigFiles : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = std::filesystem::temp_directory_path() /
              ("quench_config_" + std::to_string(::getpid()) + "_" +
               ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::create_directories(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  void write(const std::string& name, const std::string& text) {
    std::filesystem::create_directories((folder_ / name).parent_path());
    std::ofstream(folder_ / name) << text;
  }

  Node load(const std::string& name) { return config::load((folder_ / name).string()); }

  std::string relative(std::string text) const {
    const std::string prefix = folder_.string() + "/";
    for (size_t at; (at = text.find(prefix)) != std::string::npos;) text.erase(at, prefix.size());
    return text;
  }

  std::string load_error(const std::string& name) {
    try {
      load(name);
    } catch (const UsageError& e) {
      return relative(e.what());
    }
    return "no error";
  }

  std::string place(const Node& node) const { return relative(node.place.to_string()); }

  std::filesystem::path folder_;
};

const Node& at(const Node& root, const std::string& key) {
  const Node* node = &root;
  for (const std::string& part : split_key(key))
    node = node->is_list() ? &node->items.at(std::stoul(part)) : node->find(part);
  return *node;
}

Json value_of(const Node& node) {
  if (node.is_list()) {
    Json list = Json::array();
    for (const Node& item : node.items) list.push_back(value_of(item));
    return list;
  }
  if (!node.is_map()) return node.scalar;
  Json map = Json::object();
  for (const auto& [key, value] : node.entries) map[key] = value_of(value);
  return map;
}

Json parsed(const std::string& text) { return value_of(parse(text, {"a.yaml", 1})); }

std::string parse_error(const std::string& text) {
  try {
    parse(text, {"a.yaml", 1});
  } catch (const UsageError& e) {
    return e.what();
  }
  return "no error";
}

std::string set_error(Node& root, const std::string& assignment) {
  try {
    set(root, assignment);
  } catch (const UsageError& e) {
    return e.what();
  }
  return "no error";
}

TEST(Scalars, FollowTheCoreSchemaOfYaml12) {
  for (const char* text : {"", "~", "null", "Null", "NULL"})
    EXPECT_EQ(resolve_scalar(text), Json());
  for (const char* text : {"true", "True", "TRUE"}) EXPECT_EQ(resolve_scalar(text), Json(true));
  EXPECT_EQ(resolve_scalar("false"), Json(false));

  const std::pair<const char*, int64_t> integers[] = {{"0", 0},
                                                      {"-12", -12},
                                                      {"+7", 7},
                                                      {"007", 7},
                                                      {"0x1F", 31},
                                                      {"0o17", 15},
                                                      {"9223372036854775807", INT64_MAX}};
  for (const auto& [text, value] : integers) {
    EXPECT_TRUE(resolve_scalar(text).is_number_integer()) << text;
    EXPECT_EQ(resolve_scalar(text), Json(value)) << text;
  }
  const std::pair<const char*, double> numbers[] = {
      {"1e-4", 1e-4}, {".5", 0.5}, {"1.", 1.0}, {"-.5E+3", -500.0}, {"+2.5", 2.5}, {"1e5", 1e5}};
  for (const auto& [text, value] : numbers) {
    EXPECT_TRUE(resolve_scalar(text).is_number_float()) << text;
    EXPECT_EQ(resolve_scalar(text), Json(value)) << text;
  }
  for (const char* text :
       {"1_000", "no",  "yes", "on", "fast", "1.2.3", "2024-01-01", "e5", ".",     "-",
        "+",     "+-5", "--5", "0x", "0xg",  "0x-5",  "0o9",        "1e", "1e400", "12px"})
    EXPECT_EQ(resolve_scalar(text), Json(text));
}

TEST(Parse, QuotesMakeStrings) {
  EXPECT_EQ(parsed("a: \"12\"\nb: 'null'\nc: !!str 3"),
            Json({{"a", "12"}, {"b", "null"}, {"c", "3"}}));
}

TEST(Parse, KeepsTheOrderOfKeysAndTheirLines) {
  const Node root = parse("# comment\nz: 1\na:\n  y: [1,\n    2]\n  b: {c: x}\n", {"a.yaml", 1});
  EXPECT_EQ(dump(value_of(root)), R"({"z":1,"a":{"y":[1,2],"b":{"c":"x"}}})");
  EXPECT_EQ(at(root, "z").place.to_string(), "a.yaml:2");
  EXPECT_EQ(at(root, "a").place.to_string(), "a.yaml:3");
  EXPECT_EQ(at(root, "a.y").place.to_string(), "a.yaml:4");
  EXPECT_EQ(at(root, "a.y.1").place.to_string(), "a.yaml:5");
  EXPECT_EQ(at(root, "a.b.c").place.to_string(), "a.yaml:6");
}

TEST(Parse, ReadsJsonWithLines) {
  const Node root = parse(
      "{\n\t\"a\": {\n\t\t\"b\":1e-5,\n\t\t\"c\": [true, null, \"\\u00e9\\n\"]\n\t},\n"
      "\t\"d\": \"x\"\n}\n",
      {"a.json", 1});
  EXPECT_EQ(value_of(root),
            Json({{"a", {{"b", 1e-5}, {"c", {true, nullptr, "é\n"}}}}, {"d", "x"}}));
  EXPECT_EQ(at(root, "a.b").place.to_string(), "a.json:3");
  EXPECT_EQ(at(root, "a.c").place.to_string(), "a.json:4");
  EXPECT_EQ(at(root, "d").place.to_string(), "a.json:6");
}

TEST(Parse, NamesTheLineOfAnError) {
  EXPECT_EQ(parse_error("a: 1\nb: [1, 2\nc: 3\n").substr(0, 9), "a.yaml:3:");
  EXPECT_EQ(parse_error("a: 1\nb:\n  c: 1\n  d: 2\n  c: 3\n"),
            "a.yaml:5: duplicate key 'c', first given at a.yaml:3");
  EXPECT_EQ(parse_error("{\"a\": 1,\n\"a\": 2}"),
            "a.yaml:2: duplicate key 'a', first given at a.yaml:1");
  EXPECT_EQ(parse_error("a: 1\n[b]: 2\n"), "a.yaml:2: a key must be a word in UTF-8");
  EXPECT_EQ(parse_error("a:\n - \"\xff\"\n"), "a.yaml:2: expected text in UTF-8");
  EXPECT_EQ(parse_error("a: 1\n---\nb: 2\n"), "a.yaml:2: expected one document only");
  EXPECT_NE(parse_error("a: &x [*x]\n").find("nested deeper"), std::string::npos);
}

TEST_F(ConfigFiles, ExtendsIsRelativeAndMergesDeeply) {
  write("bert/big.yaml",
        "extends: ../common/base.yaml\n"
        "model:\n"
        "  hidden_size: 768\n"
        "  layers: [3]\n"
        "name: big\n");
  write("common/base.yaml",
        "extends: root.json\n"
        "model: {hidden_size: 64, heads: 4, layers: [1, 2]}\n");
  write("common/root.json", "{\"seed\": 1,\n \"model\": {\"dropout\": 0.1}}");
  const Node root = load("bert/big.yaml");
  EXPECT_EQ(
      value_of(root),
      Json({{"seed", 1},
            {"model", {{"dropout", 0.1}, {"hidden_size", 768}, {"heads", 4}, {"layers", {3}}}},
            {"name", "big"}}));
  EXPECT_EQ(place(root), "bert/big.yaml:1");
  EXPECT_EQ(place(at(root, "model.hidden_size")), "bert/big.yaml:3");
  EXPECT_EQ(place(at(root, "model.layers.0")), "bert/big.yaml:4");
  EXPECT_EQ(place(at(root, "model.heads")), "common/base.yaml:2");
  EXPECT_EQ(place(at(root, "model.dropout")), "common/root.json:2");
}

TEST_F(ConfigFiles, AnotherTypeReplacesAMapWhole) {
  write("base.yaml",
        "softmax: {type: clipped, gamma: -0.03}\ngate: {type: mlp, hidden_size: 16}\n");
  write("other.yaml",
        "extends: base.yaml\nsoftmax: {type: softmax}\ngate: {type: mlp, init: 0.5}\n");
  EXPECT_EQ(value_of(load("other.yaml")),
            Json({{"softmax", {{"type", "softmax"}}},
                  {"gate", {{"type", "mlp"}, {"hidden_size", 16}, {"init", 0.5}}}}));
}

TEST_F(ConfigFiles, ExtendsInACircleIsAnError) {
  write("a.yaml", "x: 1\nextends: b.yaml\n");
  write("b.yaml", "extends: ./a.yaml\n");
  EXPECT_EQ(load_error("a.yaml"), "b.yaml:1: extends: 'a.yaml' extends itself in a circle");
}

// A dozen lines that mean a billion values, and nesting without end.
TEST_F(ConfigFiles, BombsAreRefused) {
  std::string laughs = "a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]\n";
  for (int i = 1; i < 10; ++i) {
    laughs += concat("a", i, ": &a", i, " [");
    for (int k = 0; k < 10; ++k) laughs += concat(k ? ", " : "", "*a", i - 1);
    laughs += "]\n";
  }
  write("laughs.yaml", laughs);
  EXPECT_EQ(load_error("laughs.yaml"),
            "laughs.yaml:1: more than 100000 values, with those that aliases repeat");
  write("deep.yaml", "a: " + std::string(100'000, '['));
  EXPECT_NE(load_error("deep.yaml").find("deep.yaml:1: "), std::string::npos);
  write("maps.yaml", "a: " + std::string(100'000, '{'));
  EXPECT_NE(load_error("maps.yaml").find("maps.yaml:1: "), std::string::npos);
  Node node = parse("{}", {"a.yaml", 1});
  EXPECT_THROW(set(node, "a=" + std::string(100'000, '[')), UsageError);
}

// yaml-cpp stands still at these, and would make documents until the memory is full.
TEST_F(ConfigFiles, ATokenThatBeginsNothingIsAnError) {
  for (const char* text : {",", ",a: {type: b}\n", "]", "}", ": 1\n, 2\n"}) {
    write("odd.yaml", text);
    EXPECT_NE(load_error("odd.yaml"), "") << text;
  }
  write("odd.yaml", "\n,");
  EXPECT_EQ(load_error("odd.yaml"), "odd.yaml:2: expected a value here");
}

TEST_F(ConfigFiles, ALoopOfSymbolicLinksIsOneSentence) {
  std::filesystem::create_symlink("b.yaml", folder_ / "a.yaml");
  std::filesystem::create_symlink("a.yaml", folder_ / "b.yaml");
  EXPECT_EQ(load_error("a.yaml"),
            "cannot read the config file 'a.yaml': Too many levels of symbolic links");
  write("c.yaml", "extends: a.yaml\n");
  EXPECT_EQ(load_error("c.yaml"),
            "c.yaml:1: extends: cannot read the config file 'a.yaml': Too many levels of symbolic "
            "links");
}

TEST_F(ConfigFiles, WhatCannotBeLoadedIsSaidInOneSentence) {
  EXPECT_EQ(load_error("none.yaml"), "there is no config file 'none.yaml'");
  write("child.yaml", "x: 1\nextends: none.yaml\n");
  EXPECT_EQ(load_error("child.yaml"), "child.yaml:2: extends: there is no config file 'none.yaml'");
  write("number.yaml", "extends: 3\n");
  EXPECT_EQ(load_error("number.yaml"),
            "number.yaml:1: extends: expected the path of a config file");
  write("list.yaml", "- 1\n");
  EXPECT_EQ(load_error("list.yaml"), "list.yaml:1: expected a map of sections, such as 'model:'");
  write("folder/a.yaml", "");
  EXPECT_EQ(load_error("folder"), "cannot read the config file 'folder'");
}

TEST_F(ConfigFiles, AnEmptyFileIsAnEmptyMap) {
  for (const char* text : {"", "\n", "# nothing\n", "{}"}) {
    write("empty.yaml", text);
    EXPECT_TRUE(load("empty.yaml").is_map());
    EXPECT_EQ(value_of(load("empty.yaml")), Json::object());
  }
}

TEST(Set, OverlaysOneValue) {
  Node root = parse("model: {hidden_size: 64, heads: 4}\n", {"a.yaml", 1});
  set(root, "model.hidden_size=128");
  set(root, "output.path=runs/a=b");
  set(root, "ptq={weights: {bits: 4}}");
  set(root, "note=");
  EXPECT_EQ(dump(value_of(root)),
            R"({"model":{"hidden_size":128,"heads":4},"output":{"path":"runs/a=b"},)"
            R"("ptq":{"weights":{"bits":4}},"note":null})");
  EXPECT_EQ(at(root, "model.hidden_size").place.to_string(), "--set model.hidden_size");
  EXPECT_EQ(at(root, "ptq.weights.bits").place.to_string(), "--set ptq");
  EXPECT_EQ(at(root, "model.heads").place.to_string(), "a.yaml:1");
}

TEST(Set, ReachesIntoListsByIndex) {
  Node root = parse("ptq: {overrides: [{bits: 8}, {bits: 16, match: x}], sizes: [1, 2]}", {"a", 1});
  set(root, "ptq.overrides.1.bits=4");
  set(root, "ptq.overrides.0={match: y}");
  set(root, "ptq.sizes.1=3");
  EXPECT_EQ(
      dump(value_of(root)),
      R"({"ptq":{"overrides":[{"bits":8,"match":"y"},{"bits":4,"match":"x"}],"sizes":[1,3]}})");
  EXPECT_EQ(set_error(root, "ptq.sizes.2=3"),
            "--set ptq.sizes.2: expected an index below 2 into the list, got '2'");
  EXPECT_EQ(set_error(root, "ptq.sizes.last=3"),
            "--set ptq.sizes.last: expected an index below 2 into the list, got 'last'");
}

TEST(Set, AnotherTypeDropsTheKeysOfTheFileOnly) {
  Node root = parse("softmax: {type: exact, eps: 1}", {"a.yaml", 1});
  set(root, "softmax.alpha=12");
  set(root, "softmax.type=clipped");
  EXPECT_EQ(value_of(root), Json({{"softmax", {{"alpha", 12}, {"type", "clipped"}}}}));
}

TEST(Set, RefusesWhatIsNoAssignment) {
  Node root;
  EXPECT_EQ(set_error(root, "model"),
            "--set model: expected KEY=VALUE, as in model.hidden_size=64");
  EXPECT_EQ(set_error(root, "a..b=1"),
            "--set a..b=1: expected KEY=VALUE, as in model.hidden_size=64");
  EXPECT_EQ(set_error(root, "a.b=[1").substr(0, 11), "--set a.b: ");
}

TEST(ToYaml, IsReadBackIdentically) {
  const Json json = {
      {"section",
       {{"empty_map", Json::object()},
        {"empty_list", Json::array()},
        {"none", nullptr},
        {"flag", true},
        {"list", {1, 2.5, "x", nullptr}},
        {"maps", {{{"a", 1}, {"b", {{"c", {1, 2}}}}}, Json::object(), {{"d", "e"}}}},
        {"nested", {{{{"a", 1}}, 2}, {{1, 2}, {3}}}}}},
      {"numbers",
       {0.1, 1e-5, 1e-300, 1.0, -0.025, 1e22, 0.1 + 0.2, 5e-324, 1.7976931348623157e308}},
      {"integers", {0, -1, INT64_MAX, INT64_MIN}},
      {"strings", {"",     "a",          "a b",          "*norm", "no",        "null", "12",
                   "1e3",  "-",          "# x",          "a: b",  "é\n\t\"\\", "~",    "True",
                   "0x10", "layers.3.*", "runs/a-b_c.d", "\x01",  " x ",       ".5"}},
      {"on", {{"a b", 1}}}};
  EXPECT_EQ(value_of(parse(to_yaml(json), {"a.yaml", 1})), json) << to_yaml(json);
  EXPECT_EQ(dump(value_of(parse(to_yaml(json), {"a.yaml", 1}))), dump(json));
}

TEST(ToYaml, ReadsLikeAConfig) {
  EXPECT_EQ(to_yaml({{"model", {{"type", "bert"}, {"eps", 1e-12}, {"sizes", {1, 2}}}},
                     {"overrides", {{{"match", "*norm"}, {"bits", 16}}}},
                     {"none", nullptr}}),
            "model:\n"
            "  type: bert\n"
            "  eps: 1.0e-12\n"
            "  sizes: [1, 2]\n"
            "overrides:\n"
            "  - match: \"*norm\"\n"
            "    bits: 16\n"
            "none: null\n");
}

}  // namespace
}  // namespace quench::config
