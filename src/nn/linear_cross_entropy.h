// The last linear layer and the cross entropy behind it, together and in chunks of rows: a language
// model never holds a full [rows, vocab_size] tensor, and with gradients wanted they are formed
// while the chunk's logits are at hand.
#pragma once

#include <ATen/core/Tensor.h>

namespace quench {

// Mean over rows with label != -100 of -log softmax(hidden W^T + bias)[label] (0-dim, float32 or
// wider; 0 without any label). hidden [N, D]; weight [V, D]; bias [V] or undefined; labels int64
// [N].
at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& bias, const at::Tensor& labels);

}  // namespace quench
