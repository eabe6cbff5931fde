// Which taps are measured, and the figures that the paper's code reports from them, under its own
// names (SPEC 9).
#pragma once

#include <map>
#include <string>

#include "base/json.h"
#include "taps/statistics.h"
#include "taps/taps.h"

namespace quench {

// Listens to the residual stream, the blocks' outputs and the norms. Changes nothing.
class OutlierListener : public TapListener {
 public:
  // `model_type` and the norm placement decide whose rows are tokens instead of sequences (quirk 7
  // of SPEC 12).
  OutlierListener(std::string model_type, bool pre_norm)
      : model_type_(std::move(model_type)), pre_norm_(pre_norm) {}

  bool wants(const std::string& tap) const override;
  at::Tensor activation(const std::string& tap, const at::Tensor& x) override;

  void measure_kurtosis(bool on) { kurtosis_ = on; }
  const std::map<std::string, TensorStatistics>& taps() const { return taps_; }

  // The "outliers" object of docs/design.md 4.3.
  Json report(int64_t layers) const;

 private:
  RowKind rows(const std::string& tap) const;

  std::string model_type_;
  bool pre_norm_;
  bool kurtosis_ = true;
  std::map<std::string, TensorStatistics> taps_;
};

}  // namespace quench
