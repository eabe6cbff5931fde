// What a user may choose about one quantizer. Plain values: the names are those of the config.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace quench {

struct EstimatorOptions {
  std::string type = "minmax";       // a name of estimator_names()
  std::optional<double> percentile;  // minmax and running_minmax: clip to the (100 - p, p)-th
  std::string search = "auto";       // mse: grid | golden_section | auto
  double momentum = 0.9;             // running_minmax: weight of the past
};

struct QuantizerOptions {
  int64_t bits = 8;  // 2..16
  bool symmetric = false;
  std::string granularity = "per_tensor";  // or per_channel: a range for each index of dimension 0
  EstimatorOptions estimator;

  bool per_channel() const { return granularity == "per_channel"; }
};

}  // namespace quench
