#include "penalties/penalty.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <utility>

#include "base/error.h"
#include "penalties/penalties.h"

namespace quench {
namespace {

at::Tensor means(const at::Tensor& x, const at::Tensor& tokens, at::IntArrayRef dimensions) {
  if (!tokens.defined()) return x.mean(dimensions, /*keepdim=*/true);
  const at::Tensor text = tokens.unsqueeze(-1);
  const at::Tensor count = text.sum(dimensions, /*keepdim=*/true).clamp_min(1) * x.size(-1);
  return x.masked_fill(text.logical_not(), 0).sum(dimensions, /*keepdim=*/true) / count;
}

}  // namespace

void Penalty::describe(config::Fields& fields) {
  fields("weight", weight, "of its term in the loss; 0: off", config::at_least(0));
}

const config::Registry<Penalty>& penalties() {
  static const config::Registry<Penalty> registry{{
      {"activation_norm", "mean square of the FFN outputs, summed over the layers",
       make_activation_norm},
      {"tweo", "mean of (|x| / tau)^p of what the layers add up to, over the layers", make_tweo},
      {"kurtosis", "kurtosis of the linear layers' outputs, summed over these", make_kurtosis},
  }};
  return registry;
}

at::Tensor batch_mean(const at::Tensor& x, const at::Tensor& tokens) {
  return means(x, tokens, {0, 1, 2}).squeeze();
}

at::Tensor sequence_means(const at::Tensor& x, const at::Tensor& tokens) {
  return means(x, tokens, {1, 2});
}

PenaltyListener::PenaltyListener(const std::vector<std::shared_ptr<Penalty>>& penalties) {
  for (const std::shared_ptr<Penalty>& penalty : penalties)
    if (penalty->weight > 0) terms_.push_back({penalty, {}, 0});
}

void PenaltyListener::begin(const at::Tensor& tokens) {
  tokens_ = tokens;
  for (Term& term : terms_) term = {term.penalty, {}, 0};
}

bool PenaltyListener::wants(const std::string& name) const {
  return std::ranges::any_of(terms_, [&](const Term& t) { return t.penalty->wants(name); });
}

at::Tensor PenaltyListener::activation(const std::string& name, const at::Tensor& x) {
  const at::Tensor wide = x.to(at::promote_types(x.scalar_type(), at::kFloat));
  for (Term& term : terms_) {
    if (!term.penalty->wants(name)) continue;
    const at::Tensor found = term.penalty->of(wide, tokens_);
    term.sum = term.sum.defined() ? term.sum + found : found;
    ++term.taps;
  }
  return x;
}

at::Tensor PenaltyListener::take() {
  at::Tensor total;
  for (Term& term : terms_) {
    check(term.taps > 0, "penalty ", term.penalty->type(),
          ": the model has no tap that it looks at");
    const bool mean = term.penalty->over_taps() == Penalty::Over::kMean;
    const double weight = term.penalty->weight / static_cast<double>(mean ? term.taps : 1);
    const at::Tensor weighted = weight * std::exchange(term.sum, at::Tensor());
    total = total.defined() ? total + weighted : weighted;
  }
  return total;
}

}  // namespace quench
