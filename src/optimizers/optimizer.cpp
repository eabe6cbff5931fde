#include "optimizers/optimizer.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "optimizers/adamw.h"
#include "optimizers/muon.h"
#include "optimizers/sgd.h"

namespace quench {
namespace {

// As in the reference; [CLS] and positions of a ViT as in timm.
bool decays(Role role, bool norms_too) {
  switch (role) {
    case Role::kMatrix:
    case Role::kEmbedding:
    case Role::kHead:
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

std::optional<at::Tensor> OptimizerStep::grad_scale() const {
  return factor.defined() ? std::optional(1 / factor) : std::nullopt;
}

std::optional<at::Tensor> OptimizerStep::found_inf() const {
  return skip.defined() ? std::optional(skip) : std::nullopt;
}

ParameterGroup::ParameterGroup(std::vector<Parameter*> parameters, double weight_decay,
                               std::vector<std::string> buffers)
    : parameters_(std::move(parameters)),
      weight_decay_(weight_decay),
      names_(std::move(buffers)),
      buffers_(names_.size()) {
  for (std::vector<at::Tensor>& buffer : buffers_)
    for (const Parameter* parameter : parameters_)
      buffer.push_back(at::zeros_like(parameter->value.detach()));
}

ParameterGroup::Lists ParameterGroup::with_gradient(Cut cut) const {
  Lists lists;
  lists.buffers.resize(buffers_.size());
  for (size_t i = 0; i < parameters_.size(); ++i) {
    Parameter& parameter = *parameters_[i];
    if (!parameter.value.grad().defined()) continue;
    const auto add = [&](const auto& view) {
      lists.values.push_back(view(parameter.value));
      lists.gradients.push_back(view(parameter.value.mutable_grad()));
      for (size_t b = 0; b < buffers_.size(); ++b) lists.buffers[b].push_back(view(buffers_[b][i]));
    };
    if (cut == Cut::kWhole)
      add([](const at::Tensor& whole) { return whole; });
    else
      for (const Parameter::Part& part : parameter.parts)
        add([&](const at::Tensor& whole) { return parameter.view(part, whole); });
  }
  return lists;
}

std::vector<std::pair<std::string, at::Tensor>> ParameterGroup::state() const {
  std::vector<std::pair<std::string, at::Tensor>> state;
  for (size_t i = 0; i < parameters_.size(); ++i)
    for (const Parameter::Part& part : parameters_[i]->parts)
      for (size_t b = 0; b < buffers_.size(); ++b)
        state.emplace_back(names_[b] + "." + part.name, parameters_[i]->view(part, buffers_[b][i]));
  return state;
}

Optimizer::Optimizer(std::vector<std::unique_ptr<ParameterGroup>> groups)
    : groups_(std::move(groups)) {
  for (const auto& group : groups_)
    if (!step_.defined() && !group->parameters().empty())
      step_ =
          at::zeros({}, group->parameters().front()->value.detach().options().dtype(at::kFloat));
}

at::Tensor Optimizer::gradient_norm(const at::Tensor& loss_scale) const {
  at::NoGradGuard no_grad;
  std::vector<at::Tensor> gradients;
  for (const auto& group : groups_)
    for (const Parameter* parameter : group->parameters())
      if (parameter->value.grad().defined()) gradients.push_back(parameter->value.grad());
  const at::Tensor norm = at::stack(at::_foreach_norm(gradients, 2)).norm();
  return loss_scale.defined() ? norm / loss_scale : norm;
}

void Optimizer::step(const at::Tensor& learning_rate, const at::Tensor& factor,
                     const at::Tensor& skip) {
  at::NoGradGuard no_grad;
  const bool scale = factor.defined() && !(factor.is_cpu() && factor.item<double>() == 1);
  step_ += skip.defined() ? 1 - skip : at::ones_like(step_);
  for (const auto& group : groups_)
    group->step({learning_rate, scale ? factor : at::Tensor(), skip, step_});
}

void Optimizer::zero_gradients() {
  for (const auto& group : groups_)
    for (Parameter* parameter : group->parameters()) parameter->value.mutable_grad() = at::Tensor();
}

std::vector<std::pair<double, std::vector<std::string>>> Optimizer::groups() const {
  std::vector<std::pair<double, std::vector<std::string>>> groups;
  for (const auto& group : groups_) {
    auto& [decay, names] = groups.emplace_back(group->weight_decay(), std::vector<std::string>());
    for (const Parameter* parameter : group->parameters())
      for (const Parameter::Part& part : parameter->parts) names.push_back(part.name);
  }
  return groups;
}

std::vector<std::pair<std::string, at::Tensor>> Optimizer::state() const {
  std::vector<std::pair<std::string, at::Tensor>> state{{"step", step_}};
  for (const auto& group : groups_)
    for (auto& entry : group->state()) state.push_back(std::move(entry));
  return state;
}

void OptimizerConfig::describe(config::Fields& fields) {
  fields("learning_rate", learning_rate, "peak rate", config::greater_than(0));
  fields("weight_decay", weight_decay,
         "decay of everything but biases, LayerNorm gains and tokens ([CLS], sinks, ...)",
         config::at_least(0));
  fields("decay_norm_weights", decay_norm_weights, "decay LayerNorm gains too");
}

std::vector<std::unique_ptr<ParameterGroup>> OptimizerConfig::by_decay(
    const std::vector<Parameter*>& parameters,
    const std::function<std::unique_ptr<ParameterGroup>(std::vector<Parameter*>, double)>& make)
    const {
  std::vector<Parameter*> decaying, others;
  for (Parameter* parameter : parameters)
    (decays(parameter->role, decay_norm_weights) ? decaying : others).push_back(parameter);
  std::vector<std::unique_ptr<ParameterGroup>> groups;
  groups.push_back(make(decaying, weight_decay));
  groups.push_back(make(others, 0));
  return groups;
}

const config::Registry<OptimizerConfig>& optimizers() {
  static const config::Registry<OptimizerConfig> registry{{
      {"adamw", "AdamW with decoupled weight decay",
       [] { return std::make_shared<AdamWConfig>(); }},
      {"muon", "Muon for hidden matrices, AdamW for the rest",
       [] { return std::make_shared<MuonConfig>(); }},
      {"sgd", "gradient descent with momentum; its weight decay is L2",
       [] { return std::make_shared<SgdConfig>(); }},
  }};
  return registry;
}

}  // namespace quench
