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
// On other devices a chunk is a few launches, and its size bounds the memory.
constexpr int64_t kChunkElements = int64_t{1} << 23, kChunkRows = 512;
constexpr int64_t kDeviceChunkElements = int64_t{1} << 28;
// Logits of a block of a chunk, which stay in the cache between the two products of the backward
// pass, but at least so many columns.
constexpr int64_t kBlockElements = int64_t{1} << 21, kBlockColumns = 1024;
// Probabilities of rare words vanish in fp16, which begins at 2^-24: they go through its products
// larger by so much.
constexpr double kNarrowScale = 256;

// Float32 or wider: before the loss is scaled, fp16 is too short.
struct Gradients {
  at::Tensor hidden, weight, bias;
};

bool is_narrow(at::ScalarType dtype) { return dtype == at::kHalf || dtype == at::kBFloat16; }

at::ScalarType wide(at::ScalarType dtype) { return is_narrow(dtype) ? at::kFloat : dtype; }

int64_t chunk_rows(const at::Tensor& weight) {
  const int64_t elements = weight.is_cpu() ? kChunkElements : kDeviceChunkElements;
  return std::max(kChunkRows, elements / weight.size(0));
}

// Columns of logits at a time in the backward pass of a chunk. Only a CPU has such a cache.
int64_t block_columns(const at::Tensor& hidden, int64_t vocab_size) {
  return hidden.is_cpu() && !is_narrow(hidden.scalar_type())
             ? std::max(kBlockElements / hidden.size(0), kBlockColumns)
             : vocab_size;
}

// a b of half-precision a and b, summed and kept in float32.
at::Tensor wide_product(const at::Tensor& a, const at::Tensor& b) {
  return a.is_cpu() ? at::mm(a.to(at::kFloat), b.to(at::kFloat)) : at::mm(a, b, at::kFloat);
}

// Adds the loss of some rows to `total` and, if `gradients` is given, their gradients of the mean
// over `count` labels.
void chunk(const at::Tensor& hidden, const at::Tensor& weight, const at::Tensor& bias,
           const at::Tensor& labels, const at::Tensor& count, int64_t begin, at::Tensor& total,
           Gradients* gradients) {
  const at::ScalarType dtype = hidden.scalar_type(), wide_dtype = wide(dtype);
  const at::Tensor log_probs = at::log_softmax(linear_map(hidden, weight, bias), 1, wide_dtype);
  const at::Tensor valid = (labels != -100).to(wide_dtype);
  const at::Tensor target = labels.clamp_min(0).unsqueeze(1);
  total.sub_((log_probs.gather(1, target).squeeze(1) * valid).sum());
  if (!gradients) return;
  // Each row's share of the mean is left to the side of the products that has few columns.
  const at::Tensor share = (valid / count).unsqueeze(1);
  const at::Tensor shares =
      is_narrow(dtype) ? hidden * valid.unsqueeze(1).to(dtype) : hidden * share;
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
    grad.scatter_add_(1, (target - first).clamp(0, size - 1), own.to(wide_dtype).neg());
    if (bias.defined()) accumulate(gradients->bias, (grad * share).sum(0));
    if (is_narrow(dtype)) {
      const at::Tensor scaled = grad.mul_(kNarrowScale).to(dtype);
      grad_hidden.add_(wide_product(scaled, weight), 1 / kNarrowScale);
      accumulate(gradients->weight,
                 wide_product(scaled.t(), shares).mul_(1 / (kNarrowScale * count)));
    } else {
      grad_hidden.add_(linear_map_input_gradient(grad, block(weight)));
      accumulate(gradients->weight, linear_map_weight_gradient(grad, shares));
    }
  }
  grad_hidden.mul_(share);
}

// What autocast would make of the operands of a linear layer: it is off in here, where float32
// products stand beside narrow ones.
at::Tensor autocast_operand(const at::Tensor& x) {
  const at::DeviceType device = x.device().type();
  return x.scalar_type() == at::kFloat && at::autocast::is_autocast_enabled(device)
             ? x.to(at::autocast::get_autocast_dtype(device))
             : x;
}

struct LinearCrossEntropy : torch::autograd::Function<LinearCrossEntropy> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& hidden,
                            const at::Tensor& weight, const std::optional<at::Tensor>& bias,
                            const at::Tensor& labels, bool train) {
    const at::Tensor x = autocast_operand(hidden), w = autocast_operand(weight),
                     offset = bias ? autocast_operand(*bias) : at::Tensor();
    const c10::impl::ExcludeDispatchKeyGuard no_autocast(c10::autocast_dispatch_keyset);
    const at::Tensor count = (labels != -100).sum().clamp_min(1);
    const int64_t rows = hidden.size(0), step = chunk_rows(weight);
    const at::ScalarType dtype = wide(x.scalar_type());
    Gradients gradients;
    if (train) {
      // What the first chunk fills, if there is one.
      const auto gradient = [&](const at::Tensor& of) {
        const auto options = of.options().dtype(dtype);
        return rows > 0 ? at::empty_like(of, options) : at::zeros_like(of, options);
      };
      gradients = {gradient(hidden), gradient(weight), {}};
      if (offset.defined()) gradients.bias = gradient(offset);
    }
    at::Tensor total = at::zeros({}, x.options().dtype(dtype));
    for (int64_t begin = 0; begin < rows; begin += step) {
      const int64_t size = std::min(step, rows - begin);
      chunk(x.narrow(0, begin, size), w, offset, labels.narrow(0, begin, size), count, begin, total,
            train ? &gradients : nullptr);
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
