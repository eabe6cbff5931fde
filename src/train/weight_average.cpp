#include "train/weight_average.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

namespace quench {

WeightAverage::WeightAverage(Parameters& parameters, double decay)
    : parameters_(parameters), decay_(decay) {
  for (const Parameter& parameter : parameters.all())
    averages_.push_back(parameter.value.detach().clone());
}

void WeightAverage::update() {
  const at::NoGradGuard no_grad;
  at::_foreach_lerp_(averages_, parameters_.values(), 1 - decay_);
}

void WeightAverage::swap() {
  const at::NoGradGuard no_grad;
  std::vector<at::Tensor> values = parameters_.values();
  for (size_t i = 0; i < values.size(); ++i) {
    const at::Tensor weight = values[i].clone();
    values[i].copy_(averages_[i]);
    averages_[i].copy_(weight);
  }
}

std::vector<std::pair<std::string, at::Tensor>> WeightAverage::state() const {
  std::vector<std::pair<std::string, at::Tensor>> state;
  for (size_t i = 0; i < averages_.size(); ++i) {
    const Parameter& parameter = parameters_.all()[i];
    for (const Parameter::Part& part : parameter.parts)
      state.emplace_back("weight." + part.name, parameter.view(part, averages_[i]));
  }
  return state;
}

}  // namespace quench
