// Gates: a factor in (0, 1) for the context of each head, from the tensor that enters the attention
// (gated attention, eq. 5 of the paper), for each of its features, or for the values before they
// are summed. A new gate is a class like those in gate.cpp and one line in `gates()`.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>

#include "config/fields.h"
#include "nn/parameters.h"

namespace quench {

// What a gate looks at: the tensor that enters the attention, and the values of all heads, both
// [B, T, D].
struct GateInput {
  at::Tensor x, value;
};

// Logits of one layer's gate, broadcastable to [B, T, H, d].
using GateLogits = std::function<at::Tensor(const GateInput& input, const Taps& taps)>;

struct GateShape {
  std::string name;  // of the parameters: "<attention module>.alpha"
  int64_t hidden_size = 0;
  int64_t heads = 0;
  int64_t head_size() const { return hidden_size / heads; }
};

class Gate {
 public:
  virtual ~Gate() = default;
  virtual std::string type() const = 0;
  virtual void describe(config::Fields& fields) = 0;
  // Registers one layer's parameters and returns its logits; null when there is no gate.
  virtual GateLogits add(Parameters& parameters, const GateShape& shape) const = 0;

  // per_head: one gate a head and sample, from the mean of the logits over all tokens, padding
  // included.
  std::string granularity = "per_token";
  double output_scale = 1;  // for fine-tuning: 1 / pi_init
  // The gate's values multiply the values of the keys instead of the context of the queries.
  virtual bool on_values() const { return false; }

  // sigmoid(logits) * output_scale, broadcastable to [B, T, H, d].
  at::Tensor values(const at::Tensor& logits) const;
};

const config::Registry<Gate>& gates();

// ln(p / (1 - p)), p clamped to [1e-16, 1 - 1e-16]; pi_init -> bias of the gate.
double logit(double p);

}  // namespace quench
