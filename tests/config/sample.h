// A small config with every kind of field, which the tests of this room read, write and describe.
#pragma once

#include "base/error.h"
#include "config/fields.h"

namespace quench::sample {

struct Softmax {
  virtual ~Softmax() = default;
  virtual std::string type() const = 0;
  virtual void describe(config::Fields& f) = 0;
};

struct Exact : Softmax {
  std::string type() const override { return "exact"; }
  void describe(config::Fields&) override {}
};

struct Clipped : Softmax {
  double gamma = 0;
  std::optional<double> alpha;

  std::string type() const override { return "clipped"; }
  void describe(config::Fields& f) override {
    f("gamma", gamma, "lower end of the stretch");
    f("alpha", alpha, "gamma times the length", config::greater_than(0));
    f.require(!alpha || gamma == 0, "alpha", "excludes gamma");
  }
};

inline const config::Registry<Softmax>& softmax_registry() {
  static const config::Registry<Softmax> registry{
      {{"exact", "the usual one", [] { return std::make_shared<Exact>(); }},
       {"clipped", "reaches zero", [] { return std::make_shared<Clipped>(); }}}};
  return registry;
}

struct Override {
  std::string match = "*";
  int64_t bits = 8;
};

inline void describe(config::Fields& f, Override& c) {
  f("match", c.match, "glob over names");
  f("bits", c.bits, "width", config::between(2, 16));
}

struct Model {
  int64_t hidden_size = 768;
  int64_t num_attention_heads = 12;
  double dropout = 0.1;
  bool bias = true;
  std::string hidden_act = "gelu";
  std::vector<int64_t> kernel = {3, 3};
  std::optional<std::vector<std::string>> names;
  std::optional<std::string> norm;
};

inline void describe(config::Fields& f, Model& c) {
  f("hidden_size", c.hidden_size, "width of the stack", config::at_least(1));
  f("num_attention_heads", c.num_attention_heads, "heads a layer", config::at_least(1));
  f("dropout", c.dropout, "share of zeros", config::between(0, 0.5));
  f("bias", c.bias, "linear layers have a bias");
  f("hidden_act", c.hidden_act, "activation", config::one_of({"gelu", "relu"}));
  f("kernel", c.kernel, "sizes", config::greater_than(0));
  f("names", c.names, "labels");
  f("norm", c.norm, "kind of norm", config::one_of({"layer", "rms"}));
  f.require(c.hidden_size % c.num_attention_heads == 0, "num_attention_heads",
            concat("must divide hidden_size (", c.hidden_size, "), got ", c.num_attention_heads));
}

struct Config {
  Model model;
  std::shared_ptr<Softmax> softmax = std::make_shared<Clipped>();
  std::shared_ptr<Softmax> teacher;  // null: none
  std::vector<Override> overrides;
  std::vector<std::shared_ptr<Softmax>> stack;
  std::string output = "runs";
  int64_t batch_size = 0;
};

inline void describe(config::Fields& f, Config& c) {
  f.section("model", c.model, "the stack");
  f.variant("softmax", c.softmax, softmax_registry(), "scores to probabilities");
  f.variant("teacher", c.teacher, softmax_registry(), "the teacher's");
  f.list("overrides", c.overrides, "the last match wins");
  f.list("stack", c.stack, softmax_registry(), "one after the other");
  f.retired("depth", 0, "write stack: [...] instead of this key");
  f("output", c.output, "run folder", config::any(), config::OnResume::kFree);
  f("batch_size", c.batch_size, "samples a step");
  f.require(c.model.hidden_size < 5000, "model.hidden_size", "is too large for this test");
}

}  // namespace quench::sample
