// Penalties: terms of the loss that keep activations small or flat (the items of train.penalties).
// Each looks at some taps of a forward pass. A new one is a file like those here and one line in
// `penalties()`; config, schema and --help follow from its describe().
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>
#include <vector>

#include "config/fields.h"
#include "taps/taps.h"

namespace quench {

class Penalty {
 public:
  double weight = 0;  // of its term in the loss; 0: off

  virtual ~Penalty() = default;
  virtual std::string type() const = 0;
  virtual void describe(config::Fields& fields);

  // Whether it looks at the tap `name`.
  virtual bool wants(const std::string& name) const = 0;
  // What it finds there: 0-dim, differentiable. `x` [B, T, D] is of float32 at least; `tokens`,
  // bool [B, T], tells text from padding; undefined: all is text.
  virtual at::Tensor of(const at::Tensor& x, const at::Tensor& tokens) const = 0;
  // How what it found at its taps becomes one term.
  enum class Over { kSum, kMean };
  virtual Over over_taps() const { return Over::kSum; }
};

const config::Registry<Penalty>& penalties();

// What penalties are made of: the mean of x [B, T, D] over the features of all tokens of the batch
// (0-dim), or of each sequence ([B, 1, 1]); 0 where there is no token.
at::Tensor batch_mean(const at::Tensor& x, const at::Tensor& tokens);
at::Tensor sequence_means(const at::Tensor& x, const at::Tensor& tokens);

// Gathers the terms of all penalties while a forward pass runs.
class PenaltyListener : public TapListener {
 public:
  explicit PenaltyListener(const std::vector<std::shared_ptr<Penalty>>& penalties);

  bool active() const { return !terms_.empty(); }
  // Before each pass; `tokens` as of Penalty::of().
  void begin(const at::Tensor& tokens);
  bool wants(const std::string& name) const override;
  at::Tensor activation(const std::string& name, const at::Tensor& x) override;
  bool replaces_weights() const override { return false; }
  // The weighted sum of the terms of the pass since begin(): 0-dim, differentiable.
  at::Tensor take();

 private:
  struct Term {
    std::shared_ptr<Penalty> penalty;
    at::Tensor sum;  // over the taps
    int64_t taps = 0;
  };
  std::vector<Term> terms_;
  at::Tensor tokens_;
};

}  // namespace quench
