// Attention sinks: how much of their attention queries pay to one key, above all the first (Gu et
// al. 2024, "When Attention Sink Emerges in Language Models", section 3).
//
// p [T, N] of a head, a row divided by its sum where the sink rate is concerned; alpha_k the mean
// of p_ik over the queries i that may see key k. Key 0 is a sink of that head and sequence if
// alpha_0 is above 0.3.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

#include "base/json.h"
#include "batches/batch.h"
#include "taps/taps.h"

namespace quench {

inline constexpr double kSinkThreshold = 0.3;

// Looks at the probabilities of the first 100 sequences or a batch more: for these, attention takes
// the path that forms them. Changes nothing.
class SinkListener : public TapListener {
 public:
  explicit SinkListener(bool causal) : causal_(causal) {}

  // The batch whose forward pass is next.
  void begin(const Batch& batch);

  bool wants(const std::string& tap) const override;
  at::Tensor activation(const std::string& tap, const at::Tensor& probs) override;
  bool replaces_weights() const override { return false; }

  // {"rate": share of heads and sequences of which key 0 is a sink, "rate_any_key": of which any
  // key is that half of the queries may see, "threshold", "per_head": [[L][H] mean of p_i0, not
  // divided], "uniform": what attention to every key alike would pay to key 0, "sequences"}
  Json report(int64_t layers) const;

 private:
  struct Head {
    at::Tensor paid, sink, any_sink;  // sums over sequences [H], float64, where the model computes
  };

  // [B, 1, T, N]: whether a query that counts may see a key.
  at::Tensor seen(const at::Tensor& probs) const;

  // Of one sequence [1, H, T, N].
  void add(const std::string& tap, const at::Tensor& probs, const at::Tensor& seen);

  bool causal_;
  bool looking_ = false;
  Batch batch_;
  int64_t sequences_ = 0;
  std::map<std::string, Head> heads_;  // by tap
  at::Tensor uniform_;                 // sum over sequences
  std::string uniform_tap_;            // whose masks it is made of: all have the same
};

}  // namespace quench
