// Which taps are measured, and the figures that the paper's code reports from them, under its own
// names (SPEC 9).
#pragma once

#include <map>
#include <string>

#include "base/json.h"
#include "batches/batch.h"
#include "models/traits.h"
#include "taps/largest.h"
#include "taps/statistics.h"
#include "taps/taps.h"

namespace quench {

// Listens to the residual stream, the blocks' outputs and the norms. Changes nothing.
class OutlierListener : public TapListener {
 public:
  explicit OutlierListener(PaperFigures figures) : figures_(std::move(figures)) {}

  bool wants(const std::string& tap) const override;
  at::Tensor activation(const std::string& tap, const at::Tensor& x) override;
  bool replaces_weights() const override { return false; }

  // The batch whose forward pass is next; whether its kurtosis counts.
  void begin(const Batch& batch, bool kurtosis);

  // The "outliers" object of docs/design.md 4.3.
  Json report(int64_t layers) const;

 private:
  using Statistic = double (TensorStatistics::*)() const;

  // Of a tap that was measured, under its own name or another's.
  const std::string& measured(const std::string& tap) const;
  const TensorStatistics& statistics(const std::string& tap) const;
  // Over the layers; a NaN counts as the largest.
  double largest(std::string_view point, int64_t layers, Statistic statistic) const;
  Json reference(int64_t layers) const;

  PaperFigures figures_;
  bool kurtosis_ = true;
  bool looks_closer_ = false;  // at the first sequences
  at::Tensor ids_;
  int64_t sequences_ = 0;
  std::map<std::string, TensorStatistics> taps_;
  std::map<std::string, LargestValues> largest_;
  // Taps that hand on what the one before them did: measured once, under that one's name.
  std::map<std::string, std::string> repeats_;
  struct Last {
    std::string tap;
    at::Tensor value;
    bool token_rows = false;
  } last_;
};

}  // namespace quench
