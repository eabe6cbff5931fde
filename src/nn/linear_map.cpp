#include "nn/linear_map.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/cpu/Utils.h>
#include <torch/csrc/autograd/custom_function.h>

namespace quench {
namespace {

// MKL is as fast as oneDNN, or faster, on Intel's processors only.
bool onednn_is_faster() {
#if defined(__x86_64__)
  static const bool faster = __builtin_cpu_is("amd") && __builtin_cpu_supports("avx512f") &&
                             at::globalContext().hasMKLDNN();
  return faster;
#else
  return false;
#endif
}

// x W^T + b with any strides of W.
at::Tensor onednn_linear(const at::Tensor& x, const at::Tensor& weight,
                         const std::optional<at::Tensor>& bias) {
  using Op = at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&,
                        std::string_view, c10::List<std::optional<at::Scalar>>,
                        std::optional<std::string_view>);
  static const auto op =
      c10::Dispatcher::singleton().findSchemaOrThrow("mkldnn::_linear_pointwise", "").typed<Op>();
  // It takes a bias for dense, whatever its strides.
  return op.call(x, weight, bias ? std::optional(bias->contiguous()) : bias, "none",
                 c10::List<std::optional<at::Scalar>>(), "");
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
    if (ctx->needs_input_grad(0)) out[0] = onednn_linear(grad, weight.t(), {}).view_as(x);
    if (ctx->needs_input_grad(1)) out[1] = at::mm(grad.t(), x.reshape({-1, weight.size(1)}));
    if (ctx->saved_data["bias"].toBool()) out[2] = grad.sum(0);
    return out;
  }
};

}  // namespace

at::Tensor linear_map(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias) {
  if (!onednn_is_faster() || !x.is_cpu() || x.scalar_type() != at::kFloat ||
      at::autocast::is_autocast_enabled(at::kCPU))
    return at::linear(x, weight, bias);
  return OneDnnLinear::apply(x, weight, bias.defined() ? std::optional(bias) : std::nullopt);
}

}  // namespace quench
