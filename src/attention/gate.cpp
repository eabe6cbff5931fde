#include "attention/gate.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace quench {
namespace {

std::vector<std::string> head_names(const GateShape& shape, const std::string& suffix) {
  std::vector<std::string> names;
  for (int64_t h = 0; h < shape.heads; ++h) names.push_back(concat(shape.name, ".", h, suffix));
  return names;
}

class NoGate : public Gate {
 public:
  std::string type() const override { return "none"; }
  void describe(config::Fields&) override {}
  GateLogits add(Parameters&, const GateShape&) const override { return nullptr; }
};

// One learned logit a head, whatever the input.
class UnconditionalGate : public Gate {
 public:
  std::string type() const override { return "unconditional"; }
  void describe(config::Fields&) override {}
  GateLogits add(Parameters& parameters, const GateShape& shape) const override {
    Parameter* alpha = &parameters.add(shape.name, {shape.heads}, Init::constant(0), Role::kGate);
    return [alpha](const GateInput&, const Taps& taps) {
      return tapped(*alpha, taps).view({1, 1, -1, 1});
    };
  }
};

class ConditionalGate : public Gate {
 public:
  void describe(config::Fields& fields) override {
    fields("granularity", granularity, "one gate for each token, or their mean logit for each head",
           config::one_of({"per_token", "per_head"}));
    fields("output_scale", output_scale, "factor of the gate; 1 / pi_init when fine-tuning",
           config::greater_than(0));
  }
};

// Per head: d_head -> 1.
class LinearGate : public ConditionalGate {
 public:
  double init = 0.5;  // pi_init
  std::optional<double> weight_std;

  std::string type() const override { return "linear"; }
  void describe(config::Fields& fields) override {
    fields("init", init, "pi_init: the gate's value before training; sets the bias",
           config::between(0, 1));
    fields("weight_std", weight_std,
           "weights from N(0, weight_std^2) instead of U(+-1/sqrt(d_head))", config::at_least(0));
    ConditionalGate::describe(fields);
  }
  GateLogits add(Parameters& parameters, const GateShape& shape) const override {
    const int64_t d = shape.head_size(), heads = shape.heads;
    Parameter* weight = &parameters.add_stacked(
        head_names(shape, ".weight"), {1, d}, {heads, d},
        weight_std ? Init::normal(*weight_std) : Init::torch_linear(d), Role::kGate);
    Parameter* bias = &parameters.add_stacked(head_names(shape, ".bias"), {1}, {heads},
                                              Init::constant(logit(init)), Role::kBias);
    return [=](const GateInput& input, const Taps& taps) {
      const at::Tensor by_head = input.x.unflatten(-1, {heads, d});
      return ((by_head * tapped(*weight, taps)).sum(-1) + bias->value).unsqueeze(-1);
    };
  }
};

// Per head: d_head -> hidden -> 1 with ReLU, all heads in one batched product.
class MlpGate : public ConditionalGate {
 public:
  std::optional<int64_t> hidden_size;

  std::string type() const override { return "mlp"; }
  void describe(config::Fields& fields) override {
    fields("hidden_size", hidden_size, "width of the hidden layer; default d_head / 4",
           config::at_least(1));
    ConditionalGate::describe(fields);
  }
  GateLogits add(Parameters& parameters, const GateShape& shape) const override {
    const int64_t d = shape.head_size(), heads = shape.heads;
    const int64_t width = hidden_size.value_or(std::max<int64_t>(1, d / 4));
    const Init in = Init::torch_linear(d), out = Init::torch_linear(width);
    Parameter* w0 = &parameters.add_stacked(head_names(shape, ".0.weight"), {width, d},
                                            {heads * width, d}, in, Role::kGate);
    Parameter* b0 = &parameters.add_stacked(head_names(shape, ".0.bias"), {width}, {heads * width},
                                            in, Role::kBias);
    Parameter* w2 = &parameters.add_stacked(head_names(shape, ".2.weight"), {1, width},
                                            {heads, width}, out, Role::kGate);
    Parameter* b2 =
        &parameters.add_stacked(head_names(shape, ".2.bias"), {1}, {heads}, out, Role::kBias);
    return [=](const GateInput& input, const Taps& taps) {
      const at::Tensor& x = input.x;
      const at::Tensor by_head = x.reshape({-1, heads, d}).transpose(0, 1);  // [H, B T, d]
      const at::Tensor hidden =
          at::relu(at::baddbmm(b0->value.view({heads, 1, width}), by_head,
                               tapped(*w0, taps).view({heads, width, d}).transpose(1, 2)));
      const at::Tensor logits =
          at::baddbmm(b2->value.view({heads, 1, 1}), hidden, tapped(*w2, taps).unsqueeze(2));
      return logits.squeeze(2).t().reshape({x.size(0), x.size(1), heads, 1});
    };
  }
};

// One linear layer from the whole input: d_model -> n_heads.
class AllHeadsGate : public ConditionalGate {
 public:
  std::string type() const override { return "all_heads"; }
  GateLogits add(Parameters& parameters, const GateShape& shape) const override {
    const Init init = Init::torch_linear(shape.hidden_size);
    Parameter* weight = &parameters.add(shape.name + ".weight", {shape.heads, shape.hidden_size},
                                        init, Role::kGate);
    Parameter* bias = &parameters.add(shape.name + ".bias", {shape.heads}, init, Role::kBias);
    return [=](const GateInput& input, const Taps& taps) {
      return at::linear(input.x, tapped(*weight, taps), bias->value).unsqueeze(-1);
    };
  }
};

// One factor for each feature of the context (Qiu et al. 2025, "G1"): d_model -> n_heads x d_head,
// without a bias, so that gates start near 1/2.
class ElementwiseGate : public Gate {
 public:
  double weight_std = 0.02;

  std::string type() const override { return "elementwise"; }
  void describe(config::Fields& fields) override {
    fields("weight_std", weight_std, "weights from N(0, weight_std^2)", config::at_least(0));
  }
  GateLogits add(Parameters& parameters, const GateShape& shape) const override {
    const int64_t d = shape.hidden_size;
    Parameter* weight =
        &parameters.add(shape.name + ".weight", {d, d}, Init::normal(weight_std), Role::kGate);
    return [weight, heads = shape.heads](const GateInput& input, const Taps& taps) {
      return at::linear(input.x, tapped(*weight, taps)).unflatten(-1, {heads, -1});
    };
  }
};

// From the values of all heads (value-state gated attention, 2025): one factor a head, of the key
// whose value it is (`side: key`, which lets the values of a sink stay as they are), or of the
// context of the query at that place (`side: query`).
class ValueGate : public Gate {
 public:
  std::string side = "key";
  double weight_std = 0.02;

  std::string type() const override { return "value"; }
  void describe(config::Fields& fields) override {
    fields("side", side, "what is scaled: the values of the keys, or the context of the queries",
           config::one_of({"key", "query"}));
    fields("weight_std", weight_std, "weights from N(0, weight_std^2)", config::at_least(0));
  }
  bool on_values() const override { return side == "key"; }
  GateLogits add(Parameters& parameters, const GateShape& shape) const override {
    Parameter* weight =
        &parameters.add(shape.name + ".value.weight", {shape.heads, shape.hidden_size},
                        Init::normal(weight_std), Role::kGate);
    return [weight](const GateInput& input, const Taps& taps) {
      return at::linear(input.value, tapped(*weight, taps)).unsqueeze(-1);
    };
  }
};

}  // namespace

at::Tensor Gate::values(const at::Tensor& logits) const {
  const at::Tensor gate =
      at::sigmoid(granularity == "per_head" ? logits.mean(1, /*keepdim=*/true) : logits);
  return output_scale == 1 ? gate : gate * output_scale;
}

const config::Registry<Gate>& gates() {
  static const config::Registry<Gate> registry{{
      {"none", "no gate", [] { return std::make_shared<NoGate>(); }},
      {"unconditional", "one learned logit a head",
       [] { return std::make_shared<UnconditionalGate>(); }},
      {"linear", "per head: d_head -> 1", [] { return std::make_shared<LinearGate>(); }},
      {"mlp", "per head: d_head -> hidden -> 1, ReLU", [] { return std::make_shared<MlpGate>(); }},
      {"all_heads", "one linear layer: hidden_size -> heads",
       [] { return std::make_shared<AllHeadsGate>(); }},
      {"elementwise", "one linear layer: hidden_size -> every feature of the context",
       [] { return std::make_shared<ElementwiseGate>(); }},
      {"value", "from the values: hidden_size -> heads",
       [] { return std::make_shared<ValueGate>(); }},
  }};
  return registry;
}

double logit(double p) { return -std::log(1 / std::clamp(p, 1e-16, 1 - 1e-16) - 1); }

}  // namespace quench
