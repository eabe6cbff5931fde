#include "optimizers/muon.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"

namespace quench {
namespace {

// Equal matrices run as one batch of products, up to so many numbers: more would take memory and
// gain nothing.
constexpr int64_t kBatchNumbers = 1 << 24;

class MuonGroup : public ParameterGroup {
 public:
  MuonGroup(std::vector<Parameter*> parameters, const MuonConfig& config)
      : ParameterGroup(std::move(parameters), config.weight_decay, {"momentum"}),
        momentum_(config.momentum),
        scale_(config.scale) {}

  void step(const OptimizerStep& step) override {
    const Lists parts = with_gradient(Cut::kParts);
    std::map<std::vector<int64_t>, std::vector<size_t>> by_shape;
    for (size_t i = 0; i < parts.values.size(); ++i)
      by_shape[parts.values[i].sizes().vec()].push_back(i);
    for (const auto& [shape, all] : by_shape) {
      const auto limit =
          static_cast<size_t>(std::max<int64_t>(1, kBatchNumbers / (shape[0] * shape[1])));
      for (size_t begin = 0; begin < all.size(); begin += limit)
        update(parts,
               {all.begin() + static_cast<std::ptrdiff_t>(begin),
                all.begin() + static_cast<std::ptrdiff_t>(std::min(begin + limit, all.size()))},
               step);
    }
  }

 private:
  // Of those `parts` that `batch` numbers, which are of one shape.
  void update(const Lists& parts, const std::vector<size_t>& batch,
              const OptimizerStep& step) const {
    const auto pick = [&](const std::vector<at::Tensor>& from) {
      std::vector<at::Tensor> picked;
      for (const size_t i : batch) picked.push_back(from[i]);
      return picked;
    };
    // What a skipped step makes of its gradients, NaN perhaps, goes nowhere.
    const auto write = [&](const std::vector<at::Tensor>& to, const at::Tensor& before,
                           const at::Tensor& after) {
      const at::Tensor kept = step.skip.defined() ? at::where(step.skip > 0, before, after) : after;
      at::_foreach_copy_(to, kept.unbind());
    };
    const std::vector<at::Tensor> values = pick(parts.values), momenta = pick(parts.buffers[0]);
    at::Tensor gradient = at::stack(pick(parts.gradients));
    if (step.factor.defined()) gradient = gradient * step.factor;
    const at::Tensor value = at::stack(values), before = at::stack(momenta);
    const at::Tensor momentum = at::lerp(before, gradient, 1 - momentum_);
    const at::Tensor direction = newton_schulz(at::lerp(gradient, momentum, momentum_));
    const double scale = muon_scale(scale_, value.size(1), value.size(2));
    write(values, value,
          value * (1 - step.learning_rate * weight_decay()) -
              direction * (step.learning_rate * scale));
    write(momenta, before, momentum);
  }

  double momentum_;
  std::string scale_;
};

}  // namespace

double muon_scale(const std::string& scale, int64_t rows, int64_t columns) {
  const auto r = static_cast<double>(rows), c = static_cast<double>(columns);
  return scale == "jordan" ? std::sqrt(std::max(1., r / c)) : 0.2 * std::sqrt(std::max(r, c));
}

at::Tensor newton_schulz(const at::Tensor& matrices) {
  if (matrices.size(-2) > matrices.size(-1))
    return newton_schulz(matrices.transpose(-1, -2)).transpose(-1, -2);
  at::Tensor x = matrices.reshape({-1, matrices.size(-2), matrices.size(-1)});
  x = x / (at::linalg_vector_norm(x, 2, at::IntArrayRef({1, 2}), /*keepdim=*/true) + 1e-7);
  for (int i = 0; i < 5; ++i) {
    const at::Tensor a = at::bmm(x, x.transpose(1, 2));
    const at::Tensor b = at::baddbmm(a, a, a, /*beta=*/-4.7750, /*alpha=*/2.0315);
    x = at::baddbmm(x, b, x, /*beta=*/3.4445);
  }
  return x.view_as(matrices);
}

MuonConfig::MuonConfig() {
  learning_rate = 1e-3;
  weight_decay = 0.1;
}

void MuonConfig::describe(config::Fields& fields) {
  OptimizerConfig::describe(fields);
  fields("momentum", momentum, "share of the past gradients in a hidden matrix's step",
         config::between(0, 0.99999999));
  fields(
      "scale", scale,
      "of a hidden matrix's step: moonlight, 0.2 sqrt(max(rows, columns)), for rates as AdamW's; "
      "jordan, sqrt(max(1, rows / columns)), for larger ones, which the rest then has too",
      config::one_of({"moonlight", "jordan"}));
  describe_options(fields, adamw);
}

std::unique_ptr<Optimizer> MuonConfig::build(Parameters& parameters) const {
  std::vector<Parameter*> matrices, rest;
  for (Parameter* parameter : parameters.pointers())
    (parameter->role == Role::kMatrix ? matrices : rest).push_back(parameter);
  for (const Parameter* parameter : matrices)
    check(parameter->parts[0].shape.size() == 2, "muon: ", parameter->parts[0].name,
          " has the role of a matrix and ", parameter->parts[0].shape.size(), " dimensions");
  std::vector<std::unique_ptr<ParameterGroup>> groups =
      by_decay(rest, [&](std::vector<Parameter*> list, double decay) {
        return make_adamw_group(std::move(list), decay, adamw);
      });
  groups.insert(groups.begin(), std::make_unique<MuonGroup>(std::move(matrices), *this));
  return std::make_unique<Optimizer>(std::move(groups));
}

}  // namespace quench
