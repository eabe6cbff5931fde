#include "batches/batch.h"

#include <ATen/ATen.h>

namespace quench {

Batch Batch::to(at::Device device) const {
  const auto move = [&](const at::Tensor& x) {
    if (!x.defined() || x.device() == device) return x;
    return (device.is_cuda() ? x.pin_memory() : x)
        .to(device, x.scalar_type(), /*non_blocking=*/true);
  };
  return {move(input_ids), move(attention_mask),  move(token_type_ids),
          move(labels),    move(label_positions), move(pixel_values)};
}

}  // namespace quench
