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

struct Gradients {
  at::Tensor hidden, weight, bias;
};

at::Tensor wide(const at::Tensor& x) {
  return x.scalar_type() == at::kHalf || x.scalar_type() == at::kBFloat16 ? x.to(at::kFloat) : x;
}

// Adds the loss of some rows to `total` and, if `gradients` is given, their gradients of the mean
// over `count` labels.
void chunk(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& bias,
           const at::Tensor& labels, const at::Tensor& count, int64_t begin, at::Tensor& total,
           Gradients* gradients) {
  const at::Tensor logits = wide(linear_map(hidden, weight, bias));
  const at::Tensor log_probs = at::log_softmax(logits, 1);
  const at::Tensor valid = (labels != -100).to(log_probs.scalar_type());
  const at::Tensor target = labels.clamp_min(0).unsqueeze(1);
  total.sub_((log_probs.gather(1, target).squeeze(1) * valid).sum());
  if (!gradients) return;
  // Each row's share of the mean is left to the narrow side of the products: the logits are wide.
  const at::Tensor share = (valid / count).unsqueeze(1);
  at::Tensor grad = log_probs.exp_();
  grad.scatter_add_(1, target, at::full({}, -1, grad.options()).expand_as(target));
  const bool autocast = at::autocast::is_autocast_enabled(hidden.device().type());
  // (Autocast keeps its copy of a weight, not of a transposed one.)
  at::Tensor rows = autocast ? at::mm(grad, weight) : linear_map(grad, weight.t());
  gradients->hidden.narrow(0, begin, hidden.size(0)).copy_(rows.mul_(share));
  const at::Tensor shares = hidden * share;
  if (!gradients->weight.defined()) {
    gradients->weight = at::mm(grad.t(), shares).to(weight.scalar_type());
  } else if (autocast) {
    gradients->weight.add_(at::mm(grad.t(), shares));
  } else {  // no temporary of the embedding's size
    gradients->weight.addmm_(grad.t(), shares);
  }
  if (bias.defined()) gradients->bias.add_((grad * share).sum(0));
}

struct LinearCrossEntropy : torch::autograd::Function<LinearCrossEntropy> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& hidden,
                            const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                            const at::Tensor& labels, bool train) {
    const at::Tensor offset = bias.value_or(at::Tensor());
    const at::Tensor count = (labels != -100).sum().clamp_min(1);
    Gradients gradients;
    if (train) {
      gradients.hidden = at::empty_like(hidden);
      if (offset.defined()) gradients.bias = at::zeros_like(offset);
    }
    at::Tensor total = at::zeros({}, wide(weight.detach().narrow(0, 0, 1)).options());
    const int64_t rows = hidden.size(0),
                  step = std::max(kChunkRows, kChunkElements / weight.size(0));
    for (int64_t begin = 0; begin < rows; begin += step) {
      const int64_t size = std::min(step, rows - begin);
      chunk(hidden.narrow(0, begin, size), weight, offset, labels.narrow(0, begin, size), count,
            begin, total, train ? &gradients : nullptr);
    }
    if (train && !gradients.weight.defined()) gradients.weight = at::zeros_like(weight);
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
