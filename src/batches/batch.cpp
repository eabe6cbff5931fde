#include "batches/batch.h"

#include <ATen/ATen.h>

#include <map>

namespace quench {

Batch Batch::mapped(const std::function<at::Tensor(const at::Tensor&)>& f) const {
  std::map<const c10::TensorImpl*, at::Tensor> images;
  const auto image = [&](const at::Tensor& x) {
    if (!x.defined()) return x;
    at::Tensor& y = images[x.unsafeGetTensorImpl()];
    if (!y.defined()) y = f(x);
    return y;
  };
  return {image(input_ids), image(attention_mask),  image(token_type_ids),
          image(labels),    image(label_positions), image(pixel_values)};
}

Batch Batch::to(at::Device device) const {
  return mapped(
      [&](const at::Tensor& x) { return x.to(device, x.scalar_type(), /*non_blocking=*/true); });
}

Batch Batch::pinned() const {
  return mapped([](const at::Tensor& x) { return x.pin_memory(); });
}

}  // namespace quench
