// Dropout (nn/dropout.h) in one pass over memory on a CUDA device.
#pragma once

#include <ATen/core/Tensor.h>

#include "nn/dropout.h"

namespace quench {

// hash(key, element), in CUDA C++ behind kCudaNumbers: dropout_hash with the key of the element's
// block.
extern const char kCudaDropoutHash[];

// Whether a kernel can take tensors of this device and dtype.
bool cuda_dropout_takes(const at::Tensor& x);

// residual (may be undefined; any shape of as many elements) + dropout(x), in the dtype to which
// theirs promote. Both contiguous.
at::Tensor cuda_dropout(const at::Tensor& x, const at::Tensor& residual, double p,
                        const DropoutSite& site, const RowPlace& place);

}  // namespace quench
