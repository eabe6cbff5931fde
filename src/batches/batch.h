// One batch of a training or evaluation stream. Undefined tensors are absent.
#pragma once

#include <ATen/core/Tensor.h>

namespace quench {

struct Batch {
  at::Tensor input_ids;       // int64 [B, T]
  at::Tensor attention_mask;  // bool [B, T]; undefined = all true
  at::Tensor token_type_ids;  // int64 [B, T]; undefined = all 0
  // int64 [B, T], -100 = ignored; vision: int64 [B], or float [B, classes] when mixed
  at::Tensor labels;
  // int64 [n]: where labels.flatten() != -100, found by the loader so that no device waits
  at::Tensor label_positions;
  at::Tensor pixel_values;  // float [B, C, H, W]

  int64_t size() const { return input_ids.defined() ? input_ids.size(0) : pixel_values.size(0); }
  Batch to(at::Device device) const;
};

}  // namespace quench
