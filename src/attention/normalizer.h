// Normalizers: attention scores -> probabilities, with parameters of their own where they need
// some. A new one is a file like those in normalizers/ and one line in `normalizers()`; config,
// schema and --help follow from its describe().
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <string>

#include "attention/mask.h"
#include "attention/row_function.h"
#include "config/fields.h"
#include "nn/parameters.h"

namespace quench {

// What a normalizer is told of the layer that it stands in.
struct NormalizerShape {
  std::string module;  // how the names of its parameters begin: "<attention module>"
  int64_t heads = 1, head_size = 1;
  int64_t max_seq_length = 0;  // the configured length, not that of a batch
  std::string scope = {};      // of its taps: "layers.N.attention."
};

// One layer's normalizer.
struct NormalizerLayer {
  // Masked scores [B, H, R, N] -> probabilities of the same shape, of float32 at least. Those of a
  // key that may not be seen are 0, also where a query sees no key at all (but see Softmax).
  std::function<at::Tensor(const MaskedScores& scores, const Taps& taps)> formula;
  // The same a row at a time, for the fused kernels; null: they do not compute it.
  std::shared_ptr<const RowFunction> row = nullptr;
  std::vector<Parameter*> parameters = {};
  // [H, d]: what a query gets for the rest of its probabilities to 1; null: nothing.
  Parameter* rest = nullptr;

  // The formula, rounded once to the dtype of the scores.
  at::Tensor operator()(const MaskedScores& scores, const Taps& taps) const;
};

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual std::string type() const = 0;
  virtual void describe(config::Fields& fields) = 0;
  // Registers one layer's parameters.
  virtual NormalizerLayer add(Parameters& parameters, const NormalizerShape& shape) const = 0;
  // Weight in the loss of the mean of the tap "density": the share of keys that it keeps.
  virtual double density_weight() const { return 0; }
};

const config::Registry<Normalizer>& normalizers();

// context [B, H, R, d] plus what a layer gives for the rest of the probabilities [B, H, R, N] to 1.
at::Tensor with_rest(const at::Tensor& context, const at::Tensor& probs,
                     const NormalizerLayer& layer, const Taps& taps);

// What normalizers are made of. Scores of half precision in float32.
at::Tensor widened(const at::Tensor& scores);
// `x`, of the shape of the scores, with 0 where a key may not be seen.
at::Tensor where_seen(const at::Tensor& x, const MaskedScores& scores);
// How many keys each query sees, at least 1; broadcastable to `like`, in its dtype.
at::Tensor seen_keys(const MaskedScores& scores, const at::Tensor& like);

}  // namespace quench
