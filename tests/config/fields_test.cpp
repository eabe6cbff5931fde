#include "config/fields.h"

#include <gtest/gtest.h>

#include "sample.h"

namespace quench::config {
namespace {

using sample::Clipped;
using sample::Config;
using sample::Exact;

Config read_text(const std::string& text) {
  Config config;
  read(parse(text, {"a.yaml", 1}), config);
  return config;
}

std::string error_of(const std::string& text, const std::vector<std::string>& assignments = {}) {
  try {
    Node node = parse(text, {"a.yaml", 1});
    for (const std::string& assignment : assignments) set(node, assignment);
    Config config;
    read(node, config);
  } catch (const UsageError& e) {
    return e.what();
  }
  return "no error";
}

TEST(Read, FillsEveryKindOfField) {
  const Config c = read_text(R"(
model:
  hidden_size: 64
  num_attention_heads: 4
  dropout: 0
  bias: false
  hidden_act: relu
  kernel: [5]
  names: [a, "1"]
  norm: rms
softmax: {type: clipped, alpha: 1e1}
teacher: {type: exact}
overrides:
  - match: "*norm"
    bits: 16
  - bits: 4
output: elsewhere
)");
  EXPECT_EQ(c.model.hidden_size, 64);
  EXPECT_EQ(c.model.num_attention_heads, 4);
  EXPECT_EQ(c.model.dropout, 0.0);
  EXPECT_FALSE(c.model.bias);
  EXPECT_EQ(c.model.hidden_act, "relu");
  EXPECT_EQ(c.model.kernel, std::vector<int64_t>{5});
  EXPECT_EQ(c.model.names, (std::vector<std::string>{"a", "1"}));
  EXPECT_EQ(c.model.norm, "rms");
  EXPECT_EQ(dynamic_cast<const Clipped&>(*c.softmax).alpha, 10.0);
  EXPECT_EQ(c.teacher->type(), "exact");
  ASSERT_EQ(c.overrides.size(), 2u);
  EXPECT_EQ(c.overrides[0].match, "*norm");
  EXPECT_EQ(c.overrides[0].bits, 16);
  EXPECT_EQ(c.overrides[1].match, "*");
  EXPECT_EQ(c.overrides[1].bits, 4);
  EXPECT_EQ(c.output, "elsewhere");
}

TEST(Read, AbsentKeysKeepTheirDefaults) {
  const Config c = read_text("output: x");
  EXPECT_EQ(c.model.hidden_size, 768);
  EXPECT_EQ(c.model.kernel, (std::vector<int64_t>{3, 3}));
  EXPECT_EQ(c.model.names, std::nullopt);
  EXPECT_EQ(c.softmax->type(), "clipped");
  EXPECT_EQ(c.teacher, nullptr);
  EXPECT_TRUE(c.overrides.empty());
}

TEST(Read, NullEmptiesAnOptional) {
  Config c;
  c.model.norm = "rms";
  c.model.names = {"a"};
  read(parse("model: {norm: null, names: ~}", {"a.yaml", 1}), c);
  EXPECT_EQ(c.model.norm, std::nullopt);
  EXPECT_EQ(c.model.names, std::nullopt);
}

TEST(Read, AGivenListReplacesItsDefault) {
  Config c;
  c.overrides = {{"x", 2}, {"y", 3}};
  read(parse("overrides: [{bits: 4}]", {"a.yaml", 1}), c);
  ASSERT_EQ(c.overrides.size(), 1u);
  EXPECT_EQ(c.overrides[0].match, "*");
}

TEST(Read, ListsOfVariantsHaveATypeEach) {
  const Config c = read_text("stack: [{type: exact}, {type: clipped, gamma: -1}, {type: exact}]");
  ASSERT_EQ(c.stack.size(), 3u);
  EXPECT_EQ(c.stack[0]->type(), "exact");
  EXPECT_EQ(dynamic_cast<const Clipped&>(*c.stack[1]).gamma, -1);
  EXPECT_EQ(error_of("stack: [{gamma: 1}]"),
            "a.yaml:1: stack.0: expected a map with a 'type', one of exact, clipped; got a map");
  for (const char* item : {"4", "null"})
    EXPECT_EQ(error_of(concat("stack:\n- {type: exact}\n- ", item)),
              concat("a.yaml:3: stack.1: expected a map with a 'type', one of exact, clipped; got ",
                     item));
  EXPECT_EQ(error_of("stack: [{type: exact, gamma: 1}]"),
            "a.yaml:1: stack.0.gamma: unknown key for type 'exact' (known here: type)");
  EXPECT_EQ(error_of("stack: [{type: clipped, gamma: 1, alpha: 2}]"),
            "a.yaml:1: stack.0.alpha: excludes gamma");
  EXPECT_EQ(error_of("stack: [{type: exat}]"),
            "a.yaml:1: stack.0.type: expected one of exact, clipped, got \"exat\"; did you mean "
            "'exact'?");
  EXPECT_EQ(error_of("stack: {type: exact}"), "a.yaml:1: stack: expected a list, got a map");
}

TEST(Read, ARetiredKeySaysWhatToWriteInstead) {
  EXPECT_EQ(error_of("output: x\ndepth: 3"),
            "a.yaml:2: depth: write stack: [...] instead of this key, got 3");
  EXPECT_EQ(error_of("depth: 0.0"), "no error") << "it never meant anything";
}

TEST(Read, UnknownKeysNameThePlaceAndTheNearestKey) {
  EXPECT_EQ(error_of("output: x\nmodel:\n  hidden_sise: 64\n"),
            "a.yaml:3: model.hidden_sise: unknown key; did you mean 'hidden_size'? (known here: "
            "hidden_size, num_attention_heads, dropout, bias, hidden_act, kernel, names, norm)");
  EXPECT_EQ(error_of("color: red"),
            "a.yaml:1: color: unknown key (known here: model, softmax, teacher, overrides, stack, "
            "output, batch_size)");
  EXPECT_EQ(
      error_of("overrides:\n- bits: 4\n- {bit: 4}\n"),
      "a.yaml:3: overrides.1.bit: unknown key; did you mean 'bits'? (known here: match, bits)");
  EXPECT_EQ(error_of("softmax: {type: exact, alpha: 3}"),
            "a.yaml:1: softmax.alpha: unknown key for type 'exact' (known here: type)");
}

TEST(Read, WrongTypesNameWhatWasExpected) {
  const std::pair<const char*, const char*> cases[] = {
      {"hidden_size: fast", R"(hidden_size: expected an integer >= 1, got "fast")"},
      {"hidden_size: 64.0", "hidden_size: expected an integer >= 1, got 64.0"},
      {"hidden_size: 99999999999999999999", "hidden_size: expected an integer >= 1, got 1e+20"},
      {"hidden_size: \"64\"", R"(hidden_size: expected an integer >= 1, got "64")"},
      {"hidden_size: null", "hidden_size: expected an integer >= 1, got null"},
      {"dropout: .nan", R"(dropout: expected a number from 0 to 0.5, got ".nan")"},
      {"dropout: [1]", "dropout: expected a number from 0 to 0.5, got a list"},
      {"bias: yes", R"(bias: expected true or false, got "yes")"},
      {"hidden_act: 3", "hidden_act: expected one of gelu, relu, got 3"},
      {"names: a", R"(names: expected a list or null, each item a string; got "a")"},
      {"names: [a, 1]", "names.1: expected a string, got 1"},
      {"norm: {a: 1}", "norm: expected one of layer, rms or null, got a map"}};
  for (const auto& [line, message] : cases)
    EXPECT_EQ(error_of(std::string("model:\n  ") + line),
              std::string("a.yaml:2: model.") + message);
  EXPECT_EQ(error_of("output: 2024"), "a.yaml:1: output: expected a string, got 2024");
  EXPECT_EQ(error_of("model: 3"), "a.yaml:1: model: expected a map of keys, got 3");
  EXPECT_EQ(error_of("model:"), "a.yaml:1: model: expected a map of keys, got null");
  EXPECT_EQ(error_of("overrides: {bits: 4}"), "a.yaml:1: overrides: expected a list, got a map");
  EXPECT_EQ(error_of("overrides: [4]"), "a.yaml:1: overrides.0: expected a map of keys, got 4");
  EXPECT_EQ(error_of("- 1"), "a.yaml:1: expected a map of keys, got a list");
}

TEST(Read, ValuesOutOfRangeNameTheRange) {
  const std::pair<const char*, const char*> cases[] = {
      {"hidden_size: 0", "hidden_size: expected an integer >= 1, got 0"},
      {"dropout: 0.6", "dropout: expected a number from 0 to 0.5, got 0.6"},
      {"dropout: -1e-4", "dropout: expected a number from 0 to 0.5, got -0.0001"},
      {"kernel: [3,\n   0]", "kernel.1: expected an integer > 0, got 0"},
      {"hidden_act: geul",
       R"(hidden_act: expected one of gelu, relu, got "geul"; did you mean 'gelu'?)"}};
  for (const auto& [line, message] : cases) {
    const std::string error = error_of(std::string("model:\n  ") + line);
    EXPECT_EQ(error.substr(error.find("model.")), std::string("model.") + message);
  }
  EXPECT_EQ(error_of("model:\n  kernel: [3,\n   0]").substr(0, 9), "a.yaml:3:");
}

TEST(Read, BoundsAreWhereTheySayTheyAre) {
  EXPECT_TRUE(at_least(1).accepts(1));
  EXPECT_FALSE(at_least(1).accepts(0.999));
  EXPECT_TRUE(greater_than(1).accepts(1.001));
  EXPECT_FALSE(greater_than(1).accepts(1));
  EXPECT_TRUE(between(0, 1).accepts(0));
  EXPECT_TRUE(between(0, 1).accepts(1));
  EXPECT_FALSE(between(0, 1).accepts(1.001));
  EXPECT_FALSE(between(0, 1).accepts(-0.001));
}

TEST(Read, ErrorsInWhatTheCommandLineSetSaySo) {
  EXPECT_EQ(error_of("output: x", {"model.hidden_size=-3"}),
            "--set model.hidden_size: model.hidden_size: expected an integer >= 1, got -3");
  EXPECT_EQ(error_of("output: x", {"model.bais=true"}).substr(0, 56),
            "--set model.bais: model.bais: unknown key; did you mean ");
}

TEST(Read, AVariantKeepsTheDefaultsOfItsOwnType) {
  Config c;
  dynamic_cast<Clipped&>(*c.softmax).gamma = -0.5;
  read(parse("softmax: {}", {"a.yaml", 1}), c);
  EXPECT_EQ(dynamic_cast<Clipped&>(*c.softmax).gamma, -0.5);
  read(parse("softmax: {type: clipped}", {"a.yaml", 1}), c);
  EXPECT_EQ(dynamic_cast<Clipped&>(*c.softmax).gamma, -0.5);
  read(parse("softmax: {gamma: -1}", {"a.yaml", 1}), c);
  EXPECT_EQ(dynamic_cast<Clipped&>(*c.softmax).gamma, -1.0);
  read(parse("softmax: {type: exact}", {"a.yaml", 1}), c);
  EXPECT_EQ(c.softmax->type(), "exact");
}

TEST(Read, AVariantNeedsAKnownType) {
  EXPECT_EQ(error_of("softmax:\n  type: cliped"),
            R"(a.yaml:2: softmax.type: expected one of exact, clipped, got "cliped"; )"
            R"(did you mean 'clipped'?)");
  EXPECT_EQ(error_of("teacher:\n  gamma: 1"),
            "a.yaml:1: teacher: expected a map with a 'type', one of exact, clipped; got a map");
  EXPECT_EQ(error_of("softmax: null"),
            "a.yaml:1: softmax: expected a map with a 'type', one of exact, clipped; got null");
  EXPECT_EQ(
      error_of("softmax: exact"),
      R"(a.yaml:1: softmax: expected a map with a 'type', one of exact, clipped; got "exact")");
  EXPECT_EQ(read_text("teacher: null").teacher, nullptr);
}

TEST(Require, ThrowsAtThePlaceOfItsKey) {
  EXPECT_EQ(error_of("model:\n  hidden_size: 64\n  num_attention_heads: 7\n"),
            "a.yaml:3: model.num_attention_heads: must divide hidden_size (64), got 7");
  EXPECT_EQ(error_of("output: x\nmodel:\n  hidden_size: 6000\n"),
            "a.yaml:3: model.hidden_size: is too large for this test");
  EXPECT_EQ(error_of("softmax: {gamma: 1,\n alpha: 2}"), "a.yaml:2: softmax.alpha: excludes gamma");
}

TEST(Require, ThrowsAtTheSectionWhenTheKeyIsAbsent) {
  EXPECT_EQ(error_of("output: x\nmodel:\n  hidden_size: 65\n"),
            "a.yaml:2: model.num_attention_heads: must divide hidden_size (65), got 12");
}

TEST(Require, IsCheckedInASectionThatIsAbsent) {
  Config c;
  c.model.hidden_size = 7;
  EXPECT_THROW(read(parse("output: x", {"a.yaml", 1}), c), UsageError);
}

TEST(Require, YieldsToAnUnknownKeyWhichMayBeItsCause) {
  EXPECT_EQ(error_of("model: {hidden_sise: 70, num_attention_heads: 7}").substr(0, 42),
            "a.yaml:1: model.hidden_sise: unknown key; ");
}

TEST(Require, DoesNothingWhenWriting) {
  Config c;
  c.model.hidden_size = 7;
  EXPECT_EQ(write(c)["model"]["hidden_size"], 7);
}

TEST(Write, GivesEveryKeyInTheOrderOfRegistration) {
  Config c;
  c.overrides = {{"*norm", 16}};
  EXPECT_EQ(
      dump(write(c)),
      R"({"model":{"hidden_size":768,"num_attention_heads":12,"dropout":0.1,"bias":true,)"
      R"("hidden_act":"gelu","kernel":[3,3],"names":null,"norm":null},)"
      R"("softmax":{"type":"clipped","gamma":0.0,"alpha":null},"teacher":null,)"
      R"("overrides":[{"match":"*norm","bits":16}],"stack":[],"output":"runs","batch_size":0})");
}

TEST(Write, IsReadBackIdentically) {
  Config c;
  c.model.dropout = 0.1 + 0.2;
  c.model.names = {"no", "*", ""};
  c.teacher = std::make_shared<Clipped>();
  dynamic_cast<Clipped&>(*c.teacher).alpha = 1e-300;
  c.overrides = {{"layers.3.*", 4}, {"a: b", 2}};
  c.stack = {std::make_shared<Exact>(), std::make_shared<Clipped>()};
  c.batch_size = INT64_MAX;
  const Json written = write(c);
  EXPECT_EQ(dump(write(read_text(to_yaml(written)))), dump(written));
  EXPECT_EQ(dump(write(read_text(dump(written)))), dump(written));
  EXPECT_EQ(dump(write(read_text("{}"))), dump(write(Config())));
}

TEST(Differences, NameEveryKeyWithBothValues) {
  Config was, is;
  EXPECT_TRUE(differences(write(was), write(is)).empty());
  is.model.hidden_size = 24;
  is.model.kernel = {1};
  is.overrides.resize(1);
  is.output = "elsewhere";
  is.teacher = std::make_shared<Exact>();
  const auto keys = [&](const Json& a, const Json& b) {
    std::vector<std::string> keys;
    for (const Difference& d : differences(a, b))
      keys.push_back(concat(d.key, " ", dump(d.was), " ", dump(d.is)));
    return keys;
  };
  EXPECT_EQ(
      keys(write(was), write(is)),
      (std::vector<std::string>{
          "model.hidden_size 768 24", "model.kernel [3,3] [1]", R"(teacher null {"type":"exact"})",
          R"(overrides [] [{"match":"*","bits":8}])", R"(output "runs" "elsewhere")"}));
  EXPECT_EQ(keys(write_fixed(was), write_fixed(is)).size(), 4u) << "output is free";
}

TEST(Differences, OfASectionOfAnotherTypeAreItsTypeAlone) {
  Config was, is;
  is.softmax = std::make_shared<Exact>();
  const auto found = differences(write(was), write(is));
  ASSERT_EQ(found.size(), 1u);
  EXPECT_EQ(found[0].key, "softmax.type");
  EXPECT_EQ(found[0].was, "clipped");
  EXPECT_EQ(found[0].is, "exact");
}

}  // namespace
}  // namespace quench::config
