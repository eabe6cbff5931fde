// Transposed copies, at the speed of memory.
#pragma once

#include <ATen/core/Tensor.h>

namespace quench {

// x^T [n, m], contiguous, of x [m, n], float32 on the CPU. Keeps no graph. LibTorch's own copy of
// x.t() takes several times as long.
at::Tensor transposed(const at::Tensor& x);

}  // namespace quench
