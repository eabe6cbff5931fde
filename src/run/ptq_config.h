// The `ptq` section of a config (docs/design.md 4.2).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "batches/data_config.h"
#include "quant/options.h"

namespace quench {

struct WeightQuantization {
  bool enabled = true;
  int64_t bits = 8;
  std::string estimator = "minmax";
  std::string search = "auto";
  std::string granularity = "per_tensor";
  bool symmetric = true;
};

struct ActivationQuantization {
  bool enabled = true;
  int64_t bits = 8;
  std::string estimator = "running_minmax";
  std::string search = "auto";
  std::optional<double> percentile;
  bool symmetric = false;
};

// Changes what it names for every quantizer whose name matches; the last match wins.
struct QuantizerOverride {
  std::string match = "*";
  std::optional<bool> enabled;
  std::optional<int64_t> bits;
  std::optional<bool> symmetric;
  std::optional<std::string> estimator;
};

struct CalibrationConfig {
  std::shared_ptr<DataConfig> data;  // default: the run's own data; its training split
  int64_t batches = 16;
  int64_t batch_size = 32;
  bool shuffle = true;
};

struct PtqEvaluationConfig {
  std::shared_ptr<DataConfig> data;  // default: the run's own data; its validation split
  int64_t batch_size = 32;
  std::optional<int64_t> max_batches;
};

struct PtqConfig {
  std::string placement = "reference";
  WeightQuantization weights;
  ActivationQuantization activations;
  bool quantize_head = false;
  std::vector<QuantizerOverride> overrides;
  CalibrationConfig calibration;
  PtqEvaluationConfig evaluation;
  int64_t seed = 2000;  // which samples calibrate, and their masks
};
void describe(config::Fields& fields, PtqConfig& config);

}  // namespace quench
