#include "batches/batch.h"

#include <ATen/ATen.h>

#include <map>

#include "base/error.h"

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

int64_t Batch::label_count(bool causal) const {
  if (labels.is_floating_point()) return labels.size(0);  // mixed: each picture has one
  if (label_positions.defined() && !causal) return label_positions.numel();
  return (causal ? labels.slice(1, 1) : labels).ne(-100).sum().item<int64_t>();
}

Batch Batch::to(at::Device device) const {
  return mapped(
      [&](const at::Tensor& x) { return x.to(device, x.scalar_type(), /*non_blocking=*/true); });
}

Batch Batch::pinned() const {
  return mapped([](const at::Tensor& x) { return x.pin_memory(); });
}

void check_finite_pixels(const Batch& batch, const std::string& of) {
  if (!batch.pixel_values.defined() || batch.size() == 0) return;
  const at::Tensor bad = at::isfinite(batch.pixel_values).flatten(1).all(1).logical_not().nonzero();
  if (bad.numel() > 0)
    fail("the data are broken: the pixel_values of sample ", bad[0].item<int64_t>(), " of ", of,
         " are not finite");
}

}  // namespace quench
