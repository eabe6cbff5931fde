#include "attention/mask.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>

namespace quench {
namespace {

double lowest(at::ScalarType dtype) {
  switch (dtype) {
    case at::kDouble:
      return std::numeric_limits<double>::lowest();
    case at::kHalf:
      return -65504;
    case at::kBFloat16:
      return -3.3895313892515355e38;
    default:
      return std::numeric_limits<float>::lowest();
  }
}

const at::Tensor& future_of(const AttentionMask& mask, int64_t length, at::Device device) {
  at::Tensor& future = mask.formed->future;
  if (!future.defined() || future.size(0) < length)
    future = at::ones({length, length}, at::device(device).dtype(at::kBool)).triu(1);
  return future;
}

const at::Tensor& padding_of(const AttentionMask& mask, at::ScalarType dtype) {
  at::Tensor& padding = mask.formed->padding;
  if (!padding.defined() || padding.scalar_type() != dtype)
    padding = mask.keys.logical_not().unsqueeze(1).unsqueeze(1).to(dtype) * lowest(dtype);
  return padding;
}

// bool [R, N]
at::Tensor future_rows(const AttentionMask& mask, const at::Tensor& scores, int64_t first_row) {
  const int64_t rows = scores.size(-2), keys = scores.size(-1);
  return future_of(mask, std::max(first_row + rows, keys), scores.device())
      .narrow(0, first_row, rows)
      .narrow(1, 0, keys);
}

at::Tensor masked(const at::Tensor& scores, const AttentionMask& mask, int64_t first_row) {
  const double low = lowest(scores.scalar_type());
  const auto future = [&] { return future_rows(mask, scores, first_row); };
  if (!mask.keys.defined()) return mask.causal ? scores.masked_fill(future(), low) : scores;
  const at::Tensor padding = padding_of(mask, scores.scalar_type()).narrow(-1, 0, scores.size(-1));
  if (!mask.causal) return scores + padding;
  const at::Tensor additive = padding + future().to(scores.scalar_type()) * low;  // or -inf
  return at::maximum(scores + additive, at::full({}, low, scores.options()));
}

}  // namespace

at::Tensor MaskedScores::seen() const {
  at::Tensor seen;
  if (mask.causal) seen = future_rows(mask, values, first_row).logical_not();
  if (!mask.keys.defined()) return seen;
  const at::Tensor keys = mask.keys.narrow(1, 0, values.size(-1)).unsqueeze(1).unsqueeze(1);
  return seen.defined() ? seen & keys : keys;
}

MaskedScores mask_scores(const at::Tensor& scores, const AttentionMask& mask, int64_t first_row,
                         const at::Tensor& query) {
  return {masked(scores, mask, first_row), mask, first_row, query};
}

}  // namespace quench
