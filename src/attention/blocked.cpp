#include "attention/blocked.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>

#include <algorithm>
#include <cmath>

namespace quench {
namespace {

// Scores of a block; and of a whole that is small enough to be kept for the backward pass.
constexpr int64_t kBlockElements = int64_t{1} << 25, kWholeElements = int64_t{1} << 22;

// What the backward pass needs besides tensors.
struct Pass : torch::CustomClassHolder {
  AttentionMask mask;
  AttentionOptions options;
  int64_t block_rows = 0;
};

std::vector<at::Tensor> values_of(const Pass& pass) {
  std::vector<at::Tensor> values;
  for (const Parameter* parameter : pass.options.normalizer.parameters)
    values.push_back(parameter->value);
  return values;
}

std::optional<at::Tensor> flat(const std::vector<at::Tensor>& tensors) {
  std::vector<at::Tensor> rows;
  for (const at::Tensor& tensor : tensors) rows.push_back(tensor.flatten());
  return rows.empty() ? std::nullopt : std::optional(at::cat(rows));
}

// [B, T, 3 D] -> [3, B, H, T, d]
at::Tensor by_head(const at::Tensor& qkv, int64_t heads) {
  return qkv.unflatten(-1, {3, heads, -1}).permute({2, 0, 3, 1, 4});
}

// Queries [begin, end), and the keys that any of them may see: the first `keys`.
struct Block {
  int64_t begin, end, keys;
};

std::vector<Block> blocks(int64_t length, const Pass& pass) {
  std::vector<Block> blocks;
  for (int64_t begin = 0; begin < length; begin += pass.block_rows) {
    const int64_t end = std::min(begin + pass.block_rows, length);
    const bool short_rows = pass.mask.causal && !pass.mask.keys.defined();
    blocks.push_back({begin, end, short_rows ? end : length});
  }
  return blocks;
}

// q [B, H, R, d], k and v [B, H, N, d] -> context [B, H, R, d]
at::Tensor attend(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, int64_t first_row,
                  int64_t length, const Pass& pass) {
  const AttentionOptions& o = pass.options;
  const double scale = 1 / std::sqrt(static_cast<double>(q.size(-1)));
  const at::Tensor query = q * scale;
  const at::Tensor scores = capped(at::matmul(query, k.transpose(-1, -2)), o.scores_cap);
  MaskedScores masked = mask_scores(scores, pass.mask, first_row, query);
  masked.key = k;
  masked.cap = o.scores_cap;
  masked.training = o.training;
  const at::Tensor probs = o.normalizer(masked, Taps());
  const at::Tensor kept =
      o.dropout > 0 ? dropout_rows(probs, o.dropout, o.site, {first_row, length, length}) : probs;
  return with_rest(at::matmul(kept, v), probs, o.normalizer, Taps());
}

struct BlockedAttention : torch::autograd::Function<BlockedAttention> {
  // `parameters`: all of the normalizer's in one tensor, for their gradient; it reads its own.
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& qkv,
                            const c10::intrusive_ptr<Pass>& pass,
                            const std::optional<at::Tensor>& /*parameters*/) {
    ctx->save_for_backward({qkv});
    ctx->saved_data["pass"] = c10::IValue::make_capsule(pass);
    const at::Tensor heads = by_head(qkv, pass->options.heads);
    const int64_t length = qkv.size(1);
    at::Tensor context = at::empty({qkv.size(0), length, qkv.size(2) / 3}, qkv.options());
    const at::Tensor out = context.unflatten(-1, {pass->options.heads, -1}).transpose(1, 2);
    for (const Block& b : blocks(length, *pass))
      out.narrow(2, b.begin, b.end - b.begin)
          .copy_(attend(heads[0].narrow(2, b.begin, b.end - b.begin), heads[1].narrow(2, 0, b.keys),
                        heads[2].narrow(2, 0, b.keys), b.begin, length, *pass));
    return context;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const at::Tensor qkv = ctx->get_saved_variables()[0].detach();
    const auto pass = c10::static_intrusive_pointer_cast<Pass>(ctx->saved_data["pass"].toCapsule());
    const int64_t n = pass->options.heads, length = qkv.size(1);
    const at::Tensor heads = by_head(qkv, n);
    const at::Tensor grad_context = grads[0].unflatten(-1, {n, -1}).transpose(1, 2);
    // Float32 at least: keys and values get a term from every block.
    const auto wide = at::promote_types(qkv.scalar_type(), at::kFloat);
    const at::Tensor grad_qkv = at::zeros_like(qkv, qkv.options().dtype(wide));
    const at::Tensor grad_heads = by_head(grad_qkv, n);
    std::vector<at::Tensor> parameters = values_of(*pass), grad_parameters;
    for (const at::Tensor& value : parameters) grad_parameters.push_back(at::zeros_like(value));
    for (const Block& b : blocks(length, *pass)) {
      const int64_t rows = b.end - b.begin;
      const auto part = [&](const at::Tensor& x, int64_t i) {
        return i == 0 ? x[i].narrow(2, b.begin, rows) : x[i].narrow(2, 0, b.keys);
      };
      torch::autograd::variable_list inputs;
      for (int64_t i = 0; i < 3; ++i) inputs.push_back(part(heads, i).detach().requires_grad_());
      inputs.insert(inputs.end(), parameters.begin(), parameters.end());
      const at::AutoGradMode with_gradients(true);
      const at::Tensor context = attend(inputs[0], inputs[1], inputs[2], b.begin, length, *pass);
      const auto terms =
          torch::autograd::grad({context}, inputs, {grad_context.narrow(2, b.begin, rows)});
      const at::NoGradGuard no_grad;
      for (int64_t i = 0; i < 3; ++i) part(grad_heads, i).add_(terms[static_cast<size_t>(i)]);
      for (size_t i = 0; i < parameters.size(); ++i) grad_parameters[i].add_(terms[3 + i]);
    }
    return {grad_qkv.to(qkv.scalar_type()), at::Tensor(),
            flat(grad_parameters).value_or(at::Tensor())};
  }
};

}  // namespace

at::Tensor capped(const at::Tensor& scores, const std::optional<double>& cap) {
  return cap ? (scores / *cap).tanh() * *cap : scores;
}

std::optional<int64_t> attention_block_rows(const at::Tensor& qkv, int64_t heads) {
  const int64_t length = qkv.size(1), row = qkv.size(0) * heads * length;
  if (row * length <= kWholeElements) return std::nullopt;
  return std::clamp<int64_t>(kBlockElements / row, 1, length);
}

at::Tensor blocked_attention(const at::Tensor& qkv, const AttentionMask& mask,
                             const AttentionOptions& options, int64_t block_rows) {
  const auto pass = c10::make_intrusive<Pass>();
  pass->mask = mask;
  pass->options = options;
  pass->block_rows = block_rows;
  return BlockedAttention::apply(qkv, pass, flat(values_of(*pass)));
}

}  // namespace quench
