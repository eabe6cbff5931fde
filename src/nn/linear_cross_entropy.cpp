#include "nn/linear_cross_entropy.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "nn/linear_map.h"

namespace quench {
namespace {

// Logits of a chunk, but at least so many rows: fewer make the products with the weight slow.
constexpr int64_t kChunkElements = int64_t{1} << 23, kChunkRows = 512;
// Logits of a block of a chunk, which stay in the cache between the two products of the backward
// pass, but at least so many columns.
constexpr int64_t kBlockElements = int64_t{1} << 21, kBlockColumns = 1024;

struct Gradients {
  at::Tensor hidden, weight, bias;
};

at::Tensor wide(const at::Tensor& x) {
  return x.scalar_type() == at::kHalf || x.scalar_type() == at::kBFloat16 ? x.to(at::kFloat) : x;
}

// Columns of logits at a time in the backward pass of a chunk. Other devices, and autocast, which
// keeps its copy of a whole weight only, take all.
int64_t block_columns(const at::Tensor& hidden, int64_t vocab_size) {
  const bool autocast = at::autocast::is_autocast_enabled(hidden.device().type());
  return hidden.is_cpu() && !autocast ? std::max(kBlockElements / hidden.size(0), kBlockColumns)
                                      : vocab_size;
}

// Adds the loss of some rows to `total` and, if `gradients` is given, their gradients of the mean
// over `count` labels.
void chunk(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& bias,
           const at::Tensor& labels, const at::Tensor& count, int64_t begin, at::Tensor& total,
           Gradients* gradients) {
  const at::Tensor log_probs = at::log_softmax(wide(linear_map(hidden, weight, bias)), 1);
  const at::Tensor valid = (labels != -100).to(log_probs.scalar_type());
  const at::Tensor target = labels.clamp_min(0).unsqueeze(1);
  total.sub_((log_probs.gather(1, target).squeeze(1) * valid).sum());
  if (!gradients) return;
  // Each row's share of the mean is left to the narrow side of the products: the logits are wide.
  const at::Tensor share = (valid / count).unsqueeze(1), shares = hidden * share;
  const at::Tensor grad_hidden = gradients->hidden.narrow(0, begin, hidden.size(0)).zero_();
  const int64_t vocab_size = weight.size(0), step = block_columns(hidden, vocab_size);
  for (int64_t first = 0; first < vocab_size; first += step) {
    const int64_t size = std::min(step, vocab_size - first);
    const auto block = [&](const at::Tensor& t) {
      return size == vocab_size ? t : t.narrow(0, first, size);
    };
    const auto accumulate = [&](const at::Tensor& sum, const at::Tensor& term) {
      begin == 0 ? block(sum).copy_(term) : block(sum).add_(term);
    };
    at::Tensor grad = log_probs.narrow(1, first, size).exp();
    const at::Tensor own = (target >= first).logical_and(target < first + size);
    grad.scatter_add_(1, (target - first).clamp(0, size - 1), own.to(grad.scalar_type()).neg());
    grad_hidden.add_(linear_map_input_gradient(grad, block(weight)));
    accumulate(gradients->weight, linear_map_weight_gradient(grad, shares));
    if (bias.defined()) accumulate(gradients->bias, (grad * share).sum(0));
  }
  grad_hidden.mul_(share);
}

struct LinearCrossEntropy : torch::autograd::Function<LinearCrossEntropy> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& hidden,
                            const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                            const at::Tensor& labels, bool train) {
    const at::Tensor offset = bias.value_or(at::Tensor());
    const at::Tensor count = (labels != -100).sum().clamp_min(1);
    const int64_t rows = hidden.size(0),
                  step = std::max(kChunkRows, kChunkElements / weight.size(0));
    Gradients gradients;
    if (train) {
      // What the first chunk fills, if there is one.
      const auto gradient = [&](const at::Tensor& x) {
        return rows > 0 ? at::empty_like(x) : at::zeros_like(x);
      };
      gradients = {gradient(hidden), gradient(weight), {}};
      if (offset.defined()) gradients.bias = gradient(offset);
    }
    at::Tensor total = at::zeros({}, wide(weight.detach().narrow(0, 0, 1)).options());
    for (int64_t begin = 0; begin < rows; begin += step) {
      const int64_t size = std::min(step, rows - begin);
      chunk(hidden.narrow(0, begin, size), weight, offset, labels.narrow(0, begin, size), count,
            begin, total, train ? &gradients : nullptr);
    }
    if (train) {
      ctx->saved_data["hidden"] = gradients.hidden;
      ctx->saved_data["weight"] = gradients.weight;
      ctx->saved_data["bias"] = gradients.bias;
    }
    return total / count;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const at::Tensor& scale = grads[0];
    const bool unscaled = scale.is_cpu() && scale.item<double>() == 1;
    // Moved out, so that autograd owns the only reference and adds the embedding's gradient to it
    // in place.
    const auto take = [&](const char* name) {
      at::Tensor gradient = std::move(ctx->saved_data[name]).toTensor();
      ctx->saved_data.erase(name);
      return unscaled || !gradient.defined() ? gradient
                                             : gradient.mul_(scale.to(gradient.scalar_type()));
    };
    return {take("hidden"), take("weight"), take("bias"), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

at::Tensor linear_cross_entropy(const at::Tensor& hidden, const at::Tensor& weight,
                                const at::Tensor& bias, const at::Tensor& labels) {
  const bool train =
      at::GradMode::is_enabled() && (hidden.requires_grad() || weight.requires_grad());
  return LinearCrossEntropy::apply(
      hidden, weight, bias.defined() ? std::optional(bias) : std::nullopt, labels, train);
}

}  // namespace quench
