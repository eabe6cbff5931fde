#include "attention/fused.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "attention/fused_cpu.h"
#include "attention/fused_cuda.h"

namespace quench {
namespace {

struct FusedAttention : torch::autograd::Function<FusedAttention> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& qkv,
                            const std::optional<at::Tensor>& key_mask,
                            const FusedAttentionOptions& options) {
    const bool cpu = qkv.is_cpu();
    const at::Tensor source = cpu ? qkv.contiguous() : fused_cuda_heads(qkv, options.heads);
    const at::Tensor mask = key_mask ? key_mask->contiguous() : at::Tensor();
    ctx->save_for_backward({source, mask});
    ctx->saved_data["heads"] = options.heads;
    ctx->saved_data["causal"] = options.causal;
    ctx->saved_data["gamma"] = options.stretch.gamma;
    ctx->saved_data["zeta"] = options.stretch.zeta;
    ctx->saved_data["dropout"] = options.dropout;
    ctx->saved_data["key"] = static_cast<int64_t>(options.site.key);
    ctx->saved_data["first_sample"] = options.site.first_sample;
    return cpu ? fused_cpu_forward(source, mask, options)
               : fused_cuda_forward(source, qkv.size(1), mask, options);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const torch::autograd::variable_list saved = ctx->get_saved_variables();
    const FusedAttentionOptions options{
        ctx->saved_data["heads"].toInt(),
        ctx->saved_data["causal"].toBool(),
        {ctx->saved_data["gamma"].toDouble(), ctx->saved_data["zeta"].toDouble()},
        ctx->saved_data["dropout"].toDouble(),
        {static_cast<uint64_t>(ctx->saved_data["key"].toInt()),
         ctx->saved_data["first_sample"].toInt()}};
    const auto backward = saved[0].is_cpu() ? fused_cpu_backward : fused_cuda_backward;
    return {backward(saved[0], saved[1], options, grads[0].contiguous()), at::Tensor(),
            at::Tensor()};
  }
};

}  // namespace

bool fused_attention_takes(const at::Tensor& qkv) {
  return fused_cpu_takes(qkv) || fused_cuda_takes(qkv);
}

at::Tensor fused_attention(const at::Tensor& qkv, const at::Tensor& key_mask,
                           const FusedAttentionOptions& options) {
  return FusedAttention::apply(qkv, key_mask.defined() ? std::optional(key_mask) : std::nullopt,
                               options);
}

}  // namespace quench
