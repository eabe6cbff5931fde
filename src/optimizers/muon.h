// Muon (Jordan 2024): momentum, made orthogonal, for the hidden matrices (Role::kMatrix), each part
// of a stacked parameter on its own; AdamW for all else: embeddings, heads, gains, biases, gates,
// tokens. With momentum b and weight decay d, for the gradient G of a weight W [rows, columns]:
//   M <- b M + (1 - b) G;  U = (1 - b) G + b M  (Nesterov);  W <- (1 - rate d) W - rate c O(U)
// where c is 0.2 sqrt(max(rows, columns)) (Liu et al. 2025, "Moonlight"), which makes a step about
// as long as one of AdamW, so that both have one rate and one decay; or sqrt(max(1, rows /
// columns)) (Jordan). Buffer: "momentum" (M), beside AdamW's.
#pragma once

#include "optimizers/adamw.h"

namespace quench {

class MuonConfig : public OptimizerConfig {
 public:
  double momentum = 0.95;
  std::string scale = "moonlight";           // | jordan
  AdamWOptions adamw = {{0.9, 0.95}, 1e-8};  // of the rest

  MuonConfig();
  std::string type() const override { return "muon"; }
  void describe(config::Fields& fields) override;
  std::unique_ptr<Optimizer> build(Parameters& parameters) const override;
};

// c of a weight of this shape.
double muon_scale(const std::string& scale, int64_t rows, int64_t columns);

// Five Newton-Schulz steps: of each matrix U S V^T of `matrices` [..., rows, columns] about U V^T,
// with singular values of roughly 0.5 to 1.5 where they were not tiny. In the dtype of `matrices`.
at::Tensor newton_schulz(const at::Tensor& matrices);

}  // namespace quench
