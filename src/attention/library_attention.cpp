#include "attention/library_attention.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/custom_function.h>

namespace quench {
namespace {

// LibTorch's flash attention repeats its gradients only under a switch that also forbids, by an
// error, every operator that cannot.
class OnlyRepeatable {
 public:
  OnlyRepeatable() { at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/false); }
  ~OnlyRepeatable() { at::globalContext().setDeterministicAlgorithms(true, /*warn_only=*/true); }
  OnlyRepeatable(const OnlyRepeatable&) = delete;
  OnlyRepeatable& operator=(const OnlyRepeatable&) = delete;
};

// query, key and value [B, H, T, d] in half precision.
struct FlashAttention : torch::autograd::Function<FlashAttention> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& query,
                            const at::Tensor& key, const at::Tensor& value, bool causal) {
    const auto [out, log_sum, sequences_q, sequences_k, max_q, max_k, seed, offset, unused] =
        at::_scaled_dot_product_flash_attention(query, key, value, /*dropout_p=*/0, causal);
    ctx->save_for_backward(
        {query, key, value, out, log_sum, sequences_q, sequences_k, seed, offset});
    ctx->saved_data["causal"] = causal;
    ctx->saved_data["max_q"] = max_q.expect_int();
    ctx->saved_data["max_k"] = max_k.expect_int();
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const auto s = ctx->get_saved_variables();
    const OnlyRepeatable scope;
    const auto [query, key, value] = at::_scaled_dot_product_flash_attention_backward(
        grads[0], s[0], s[1], s[2], s[3], s[4], s[5], s[6], ctx->saved_data["max_q"].toInt(),
        ctx->saved_data["max_k"].toInt(), /*dropout_p=*/0, ctx->saved_data["causal"].toBool(), s[7],
        s[8]);
    return {query, key, value, at::Tensor()};
  }
};

bool trains(const at::Tensor& qkv) { return at::GradMode::is_enabled() && qkv.requires_grad(); }

}  // namespace

bool library_attention_takes(const at::Tensor& qkv, int64_t heads, const AttentionMask& mask) {
  if (!qkv.is_cuda() || (mask.keys.defined() && mask.causal)) return false;
  const int64_t head_size = qkv.size(2) / 3 / heads;
  const bool half = qkv.scalar_type() == at::kHalf || qkv.scalar_type() == at::kBFloat16;
  return !trains(qkv) || (half && !mask.keys.defined() && head_size % 8 == 0 && head_size <= 128);
}

at::Tensor library_attention(const at::Tensor& qkv, int64_t heads, const AttentionMask& mask) {
  const at::Tensor by_head =
      qkv.unflatten(-1, {3, heads, -1}).permute({2, 0, 3, 1, 4});  // [3, B, H, T, d]
  const auto attend = [&] {
    if (trains(qkv)) return FlashAttention::apply(by_head[0], by_head[1], by_head[2], mask.causal);
    const std::optional<at::Tensor> keys =
        mask.keys.defined() ? std::optional(mask.keys.unsqueeze(1).unsqueeze(1)) : std::nullopt;
    return at::scaled_dot_product_attention(by_head[0], by_head[1], by_head[2], keys, 0,
                                            mask.causal);
  };
  return attend().transpose(1, 2).flatten(-2);
}

}  // namespace quench
