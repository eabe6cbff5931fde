#include "train/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

namespace quench {
namespace {

// As in the reference; [CLS] and positions of a ViT as in timm.
bool decays(Role role, bool norms_too) {
  switch (role) {
    case Role::kMatrix:
    case Role::kEmbedding:
    case Role::kGate:
      return true;
    case Role::kNorm:
      return norms_too;
    case Role::kBias:
    case Role::kToken:
      return false;
  }
  return true;
}

}  // namespace

AdamW::AdamW(Model& model, const OptimizerConfig& config) : config_(config), groups_(2) {
  groups_[0].weight_decay = config.weight_decay;
  for (Parameter& parameter : model.parameters.all()) {
    Group& group = groups_[decays(parameter.role, config.decay_norm_weights) ? 0 : 1];
    group.parameters.push_back(&parameter);
    group.exp_avg.push_back(at::zeros_like(parameter.value.detach()));
    group.exp_avg_sq.push_back(at::zeros_like(parameter.value.detach()));
  }
  step_ = at::zeros({}, model.parameters.all().front().value.detach().options().dtype(at::kFloat));
}

at::Tensor AdamW::gradient_norm(const at::Tensor& loss_scale) const {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const Group& group : groups_)
    for (const Parameter* parameter : group.parameters)
      if (parameter->value.grad().defined()) gradients.push_back(parameter->value.grad());
  const at::Tensor norm = at::stack(at::_foreach_norm(gradients, 2)).norm();
  return loss_scale.defined() ? norm / loss_scale : norm;
}

void AdamW::step(const at::Tensor& learning_rate, const at::Tensor& factor,
                 const at::Tensor& skip) {
  at::NoGradGuard no_grad;
  const bool scale = factor.defined() && !(factor.is_cpu() && factor.item<double>() == 1);
  step_ += skip.defined() ? 1 - skip : at::ones_like(step_);
  for (Group& group : groups_) {
    std::vector<at::Tensor> values, gradients, exp_avg, exp_avg_sq;
    for (size_t i = 0; i < group.parameters.size(); ++i) {
      at::Tensor& value = group.parameters[i]->value;
      if (!value.grad().defined()) continue;
      values.push_back(value);
      gradients.push_back(value.mutable_grad());
      exp_avg.push_back(group.exp_avg[i]);
      exp_avg_sq.push_back(group.exp_avg_sq[i]);
    }
    if (values.empty()) continue;
    const std::vector<at::Tensor> steps(values.size(), step_);
    at::_fused_adamw_(values, gradients, exp_avg, exp_avg_sq, {}, steps, learning_rate,
                      config_.betas[0], config_.betas[1], group.weight_decay, config_.eps,
                      /*amsgrad=*/false, /*maximize=*/false,
                      scale ? std::optional(1 / factor) : std::nullopt,
                      skip.defined() ? std::optional(skip) : std::nullopt);
  }
}

void AdamW::zero_gradients() {
  for (Group& group : groups_)
    for (Parameter* parameter : group.parameters) parameter->value.mutable_grad() = at::Tensor();
}

std::vector<std::pair<double, std::vector<std::string>>> AdamW::groups() const {
  std::vector<std::pair<double, std::vector<std::string>>> groups;
  for (const Group& group : groups_) {
    auto& [decay, names] = groups.emplace_back(group.weight_decay, std::vector<std::string>());
    for (const Parameter* parameter : group.parameters)
      for (const Parameter::Part& part : parameter->parts) names.push_back(part.name);
  }
  return groups;
}

std::vector<std::pair<std::string, at::Tensor>> AdamW::state() const {
  std::vector<std::pair<std::string, at::Tensor>> state{{"step", step_}};
  for (const Group& group : groups_)
    for (size_t i = 0; i < group.parameters.size(); ++i)
      for (const Parameter::Part& part : group.parameters[i]->parts) {
        state.emplace_back("exp_avg." + part.name,
                           group.parameters[i]->view(part, group.exp_avg[i]));
        state.emplace_back("exp_avg_sq." + part.name,
                           group.parameters[i]->view(part, group.exp_avg_sq[i]));
      }
  return state;
}

}  // namespace quench
