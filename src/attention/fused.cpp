#include "attention/fused.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include "attention/fused_cpu.h"
#include "attention/fused_cuda.h"

namespace quench {
namespace {

// What the backward pass needs besides tensors.
struct Pass : torch::CustomClassHolder {
  FusedAttentionOptions options;
};

struct FusedAttention : torch::autograd::Function<FusedAttention> {
  // `parameter`: the row function's, for its gradient; it reads its own.
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& qkv,
                            const std::optional<at::Tensor>& key_mask,
                            const c10::intrusive_ptr<Pass>& pass,
                            const std::optional<at::Tensor>& /*parameter*/) {
    const FusedAttentionOptions& options = pass->options;
    const bool cpu = qkv.is_cpu();
    const at::Tensor source = cpu ? qkv.contiguous() : fused_cuda_heads(qkv, options.heads);
    const at::Tensor mask = key_mask ? key_mask->contiguous() : at::Tensor();
    ctx->save_for_backward({source, mask});
    ctx->saved_data["pass"] = c10::IValue::make_capsule(pass);
    return cpu ? fused_cpu_forward(source, mask, options)
               : fused_cuda_forward(source, qkv.size(1), mask, options);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const torch::autograd::variable_list saved = ctx->get_saved_variables();
    const auto pass = c10::static_intrusive_pointer_cast<Pass>(ctx->saved_data["pass"].toCapsule());
    const at::Tensor grad = grads[0].contiguous();
    FusedGradients result;
    if (saved[0].is_cpu()) {
      result = fused_cpu_backward(saved[0], saved[1], pass->options, grad);
    } else {
      result.qkv = fused_cuda_backward(saved[0], saved[1], pass->options, grad);
    }
    return {result.qkv, at::Tensor(), at::Tensor(), result.parameter};
  }
};

}  // namespace

bool fused_attention_takes(const at::Tensor& qkv, const RowFunction& row) {
  return fused_cpu_takes(qkv) || (row.stretch() && fused_cuda_takes(qkv));
}

at::Tensor fused_attention(const at::Tensor& qkv, const at::Tensor& key_mask,
                           const FusedAttentionOptions& options) {
  const auto pass = c10::make_intrusive<Pass>();
  pass->options = options;
  const Parameter* parameter = options.row->parameter();
  return FusedAttention::apply(qkv, key_mask.defined() ? std::optional(key_mask) : std::nullopt,
                               pass, parameter ? std::optional(parameter->value) : std::nullopt);
}

}  // namespace quench
