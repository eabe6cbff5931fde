#include "ptq/fake_quantizer.h"

#include <ATen/ATen.h>
#include <fnmatch.h>

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "models/names.h"

namespace quench {

bool matches_glob(const std::string& glob, const std::string& name) {
  return fnmatch(glob.c_str(), name.c_str(), FNM_NOESCAPE) == 0;
}

FakeQuantizer::FakeQuantizer(const PtqConfig& config, const ModelTraits& model)
    : config_(config), model_(model) {}

FakeQuantizer FakeQuantizer::with_activation_bits(int64_t bits) const {
  PtqConfig config = config_;
  config.activations.bits = bits;
  FakeQuantizer other(config, model_);
  other.quantized_weights_ = quantized_weights_;
  return other;
}

bool FakeQuantizer::placed(const std::string& tap) const {
  if (tap == "logits" || tap.starts_with("head."))
    return config_.quantize_head || config_.placement == "full";
  if (is_layer_output(tap)) return false;  // the layer's last tap already, under another name
  if (tap.ends_with("ffn.pre_activation")) return false;  // quantized behind the activation
  if (config_.placement == "full") return true;
  if (tap.ends_with("attention.gate")) return false;
  return !tap.ends_with(model_.unquantized);
}

bool FakeQuantizer::weight_placed(const std::string& name) const {
  if (config_.placement == "full") return true;
  if (!name.starts_with(model_.body_prefix)) return config_.quantize_head;
  return name.ends_with(".weight") && !is_gate(name);
}

FakeQuantizer::Site FakeQuantizer::site(const std::string& name, bool is_weight) const {
  asked_.insert(name);
  Site site;
  const WeightQuantization& w = config_.weights;
  const ActivationQuantization& a = config_.activations;
  site.enabled = is_weight ? w.enabled && weight_placed(name) : a.enabled && placed(name);
  site.options.bits = is_weight ? w.bits : a.bits;
  site.options.symmetric = is_weight ? w.symmetric : a.symmetric;
  site.options.granularity = is_weight ? w.granularity : "per_tensor";
  site.options.estimator.type = is_weight ? w.estimator : a.estimator;
  site.options.estimator.search = is_weight ? w.search : a.search;
  if (!is_weight) site.options.estimator.percentile = a.percentile;
  for (const QuantizerOverride& o : config_.overrides) {
    if (!matches_glob(o.match, name)) continue;
    if (o.enabled) site.enabled = *o.enabled;
    if (o.bits) site.options.bits = *o.bits;
    if (o.symmetric) site.options.symmetric = *o.symmetric;
    if (o.estimator) site.options.estimator.type = *o.estimator;
  }
  if (name.ends_with("attention.density")) site.enabled = false;  // a measure: nothing flows on
  if (site.options.estimator.type == "mse") site.options.estimator.percentile.reset();
  return site;
}

Quantizer& FakeQuantizer::quantizer(const std::string& name, bool is_weight, const Site& site) {
  const auto found = quantizers_.find(name);
  if (found != quantizers_.end()) return found->second;
  order_.emplace_back(name, is_weight ? "weight" : "activation");
  return quantizers_.try_emplace(name, name, site.options).first->second;
}

bool FakeQuantizer::wants(const std::string& tap) const {
  return site(tap, /*is_weight=*/false).enabled;
}

at::Tensor FakeQuantizer::activation(const std::string& tap, const at::Tensor& x) {
  return quantizer(tap, /*is_weight=*/false, site(tap, false))(x);
}

at::Tensor FakeQuantizer::weight(const std::string& name, const at::Tensor& w) {
  const auto cached = quantized_weights_->find(name);
  if (cached != quantized_weights_->end()) return cached->second;
  const Site at = site(name, /*is_weight=*/true);
  const at::Tensor quantized = at.enabled ? quantizer(name, /*is_weight=*/true, at)(w.detach()) : w;
  return quantized_weights_->emplace(name, quantized).first->second;
}

void FakeQuantizer::fix() {
  for (const auto& [name, kind] : order_) quantizers_.at(name).fix();
}

void FakeQuantizer::check_overrides() const {
  for (const QuantizerOverride& o : config_.overrides) {
    const bool switches_off = o.enabled && !*o.enabled;
    const bool met =
        switches_off
            ? std::ranges::any_of(
                  asked_, [&](const std::string& name) { return matches_glob(o.match, name); })
            : std::ranges::any_of(
                  order_, [&](const auto& entry) { return matches_glob(o.match, entry.first); });
    const std::string message = concat("ptq.overrides: '", o.match, "' matches no quantizer");
    if (!met && !switches_off) fail_usage(message);
    if (!met) log_warning(message);
  }
}

Json FakeQuantizer::records() const {
  Json records = Json::array();
  for (const auto& [name, kind] : order_) {
    Json record = quantizers_.at(name).record();
    Json entry = {{"name", name}, {"kind", kind}};
    entry.update(record);
    records.push_back(entry);
  }
  return records;
}

}  // namespace quench
