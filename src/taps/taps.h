// Taps: the named points of the dataflow that the paper looks at (docs/design.md lists the names).
// A tap is the identity until something listens; statistics, calibration, fake-quantization and
// capture are listeners.
#pragma once

#include <ATen/core/Tensor.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

namespace quench {

// Whether a tap is what a layer hands on, "layers.N.output".
inline bool is_layer_output(const std::string& tap) {
  return tap.starts_with("layers.") && tap.ends_with(".output") &&
         std::ranges::count(tap, '.') == 2;
}

class TapListener {
 public:
  virtual ~TapListener() = default;
  // Whether the activation tap `name` is listened to. Attention leaves its fused path only for taps
  // that are.
  virtual bool wants(const std::string& name) const = 0;
  // Sees an activation and returns what flows on (the same tensor, or one that replaces it).
  virtual at::Tensor activation(const std::string& name, const at::Tensor& x) = 0;
  // Sees the weight called `name` (a Hugging Face parameter name) where it is used, and returns the
  // one to use.
  virtual at::Tensor weight(const std::string& /*name*/, const at::Tensor& w) { return w; }
  // Whether weight() may return another one: every weight then has a product of its own, summed as
  // the reference sums. Where all listeners only watch, layers compute as with nothing listening.
  virtual bool replaces_weights() const { return true; }
};

class Taps {
 public:
  Taps() = default;
  explicit Taps(std::vector<TapListener*> listeners) : listeners_(std::move(listeners)) {}

  bool listening() const { return !listeners_.empty(); }

  bool replaces_weights() const {
    return std::ranges::any_of(listeners_, &TapListener::replaces_weights);
  }

  bool wanted(const std::string& scope, const char* point) const {
    for (const TapListener* listener : listeners_)
      if (listener->wants(scope + point)) return true;
    return false;
  }

  at::Tensor operator()(const std::string& scope, const char* point, const at::Tensor& x) const {
    if (listeners_.empty()) return x;
    const std::string name = scope + point;
    at::Tensor y = x;
    for (TapListener* listener : listeners_)
      if (listener->wants(name)) y = listener->activation(name, y);
    return y;
  }

  at::Tensor weight(const std::string& name, at::Tensor w) const {
    for (TapListener* listener : listeners_) w = listener->weight(name, w);
    return w;
  }

 private:
  std::vector<TapListener*> listeners_;
};

}  // namespace quench
