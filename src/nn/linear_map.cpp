#include "nn/linear_map.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <optional>
#include <string_view>

#include "nn/transpose.h"

namespace quench {
namespace {

// oneDNN's linear layer, an operator that LibTorch registers for its compiler's sake; none where
// this LibTorch lacks it.
std::optional<c10::OperatorHandle> onednn_operator() {
  const auto op = c10::Dispatcher::singleton().findSchema({"mkldnn::_linear_pointwise", ""});
  return op && op->hasKernelForDispatchKey(c10::DispatchKey::CPU) ? op : std::nullopt;
}

// x W^T + b with any strides of W.
at::Tensor onednn_linear(const at::Tensor& x, const at::Tensor& weight,
                         const std::optional<at::Tensor>& bias) {
  using Op = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                        std::string_view, c10::List<std::optional<at::Scalar>>,
                        std::optional<std::string_view>);
  static const auto op = onednn_operator()->typed<Op>();
  // It takes a bias for dense, whatever its strides.
  return op.call(x, weight, bias ? std::optional(bias->contiguous()) : bias, "none",
                 c10::List<std::optional<at::Scalar>>(), "");
}

// Whether oneDNN is to compute x W^T + b: all are float32 on the CPU and of shapes that go
// together; at::linear tells what is wrong, or broadcasts.
bool onednn_takes(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  const auto plain = [](const at::Tensor& t) {
    return t.is_cpu() && t.scalar_type() == at::kFloat;
  };
  return linear_map_uses_onednn() && !at::autocast::is_autocast_enabled(at::kCPU) && plain(x) &&
         plain(weight) && x.dim() > 0 && weight.dim() == 2 && x.size(-1) == weight.size(1) &&
         (!bias.defined() || (plain(bias) && bias.sizes() == weight.sizes().slice(0, 1)));
}

struct OneDnnLinear : torch::autograd::Function<OneDnnLinear> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const at::Tensor& weight, const std::optional<at::Tensor>& bias) {
    ctx->save_for_backward({x, weight});
    ctx->saved_data["bias"] = bias.has_value();
    return onednn_linear(x, weight, bias);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto saved = ctx->get_saved_variables();
    const at::Tensor &x = saved[0], &weight = saved[1];
    const at::Tensor grad = grads[0].reshape({-1, weight.size(0)});
    torch::autograd::variable_list out(3);
    if (ctx->needs_input_grad(0)) out[0] = linear_map_input_gradient(grad, weight).view_as(x);
    if (ctx->needs_input_grad(1))
      out[1] = linear_map_weight_gradient(grad, x.reshape({-1, weight.size(1)}));
    if (ctx->saved_data["bias"].toBool()) out[2] = grad.sum(0);
    return out;
  }
};

}  // namespace

// Measured on Zen 4 (docs/performance.md); on Intel's processors MKL is at home.
bool linear_map_uses_onednn() {
#if defined(__x86_64__)
  static const bool uses =
      __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512f") && onednn_operator().has_value();
  return uses;
#else
  return false;
#endif
}

at::Tensor linear_map(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!onednn_takes(x, weight, bias)) return at::linear(x, weight, bias);
  return OneDnnLinear::apply(x, weight, bias.defined() ? std::optional(bias) : std::nullopt);
}

at::Tensor linear_map_input_gradient(const at::Tensor& grad, const at::Tensor& weight) {
  // (at::linear would keep autocast from using its copy of the weight.)
  return onednn_takes(grad, weight.t(), {}) ? linear_map(grad, weight.t()) : at::mm(grad, weight);
}

at::Tensor linear_map_weight_gradient(const at::Tensor& grad, const at::Tensor& x) {
  if (at::GradMode::is_enabled() || x.size(0) == 0 || !onednn_takes(grad.t(), x.t(), {}))
    return at::mm(grad.t(), x);
  return onednn_linear(transposed(grad), x.t(), std::nullopt);
}

}  // namespace quench
