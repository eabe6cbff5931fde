// The exponential moving average of the weights (Polyak averaging; timm's ModelEma): after every
// step average <- decay * average + (1 - decay) * weight, from the first weights on.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "nn/parameters.h"

namespace quench {

class WeightAverage {
 public:
  WeightAverage(Parameters& parameters, double decay);

  void update();

  // Exchanges the weights and their averages: evaluation and saving see the averages.
  void swap();

  // What the parameters do not hold now (the averages; after swap() the weights), under
  // "weight.<name>".
  std::vector<std::pair<std::string, at::Tensor>> state() const;

 private:
  Parameters& parameters_;
  double decay_;
  std::vector<at::Tensor> averages_;  // as parameters_.all()
};

}  // namespace quench
