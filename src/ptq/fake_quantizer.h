// The listener that quantizes a model: it stands at the taps of a placement and at the weights,
// estimates ranges while calibrating, and afterwards simulates INT-b arithmetic with them (SPEC 8).
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>

#include "models/traits.h"
#include "quant/quantizer.h"
#include "run/ptq_config.h"
#include "taps/taps.h"

namespace quench {

class FakeQuantizer : public TapListener {
 public:
  // The model decides what the reference placement means.
  FakeQuantizer(const PtqConfig& config, const ModelTraits& model);

  // One of the same model and weights, which both hold once, with activations of `bits`.
  FakeQuantizer with_activation_bits(int64_t bits) const;

  bool wants(const std::string& tap) const override;
  at::Tensor activation(const std::string& tap, const at::Tensor& x) override;
  at::Tensor weight(const std::string& name, const at::Tensor& w) override;

  // Ends calibration: every range that was estimated stays as it is.
  void fix();

  // Throws UsageError if an override matches no quantizer that was met, or warns if the override
  // only switches off: then no name was met that it could switch off.
  void check_overrides() const;

  // [{"name", "kind", "bits", ...}] in the order in which the model met them.
  Json records() const;

 private:
  struct Site {
    bool enabled = false;
    QuantizerOptions options;
  };
  Site site(const std::string& name, bool is_weight) const;
  bool placed(const std::string& tap) const;
  bool weight_placed(const std::string& name) const;
  Quantizer& quantizer(const std::string& name, bool is_weight, const Site& site);

  PtqConfig config_;
  ModelTraits model_;
  std::map<std::string, Quantizer> quantizers_;
  std::vector<std::pair<std::string, const char*>> order_;  // name, kind
  mutable std::set<std::string> asked_;                     // every name met, quantized or not
  using Weights = std::unordered_map<std::string, at::Tensor>;
  std::shared_ptr<Weights> quantized_weights_ = std::make_shared<Weights>();
};

// Whether `name` matches a glob in which * stands for any characters and ? for one.
bool matches_glob(const std::string& glob, const std::string& name);

}  // namespace quench
