#include "nn/dropout.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "base/random.h"
#include "base/simd.h"

namespace quench {
namespace {

constexpr int64_t kGrain = 16384;

// out[i] = residual[i] + keep(first + i) * scale * x[i] (residual may be null). One key block only.
QUENCH_SIMD void drop_range(const float* x, const float* residual, float* out, int64_t n,
                            uint64_t key, uint32_t first, uint32_t threshold, float scale) {
  if (residual) {
    for (int64_t i = 0; i < n; ++i)
      out[i] =
          residual[i] +
          (dropout_hash(key, first + static_cast<uint32_t>(i)) >= threshold ? x[i] * scale : 0.f);
  } else {
    for (int64_t i = 0; i < n; ++i)
      out[i] =
          dropout_hash(key, first + static_cast<uint32_t>(i)) >= threshold ? x[i] * scale : 0.f;
  }
}

void drop(const float* x, const float* residual, float* out, int64_t n, double p, uint64_t key) {
  const uint32_t threshold = dropout_threshold(p);
  const float scale = static_cast<float>(1 / (1 - p));
  at::parallel_for(0, n, kGrain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t block = begin >> 32;
      const int64_t stop = std::min(end, (block + 1) << 32);
      drop_range(x + begin, residual ? residual + begin : nullptr, out + begin, stop - begin,
                 dropout_block_key(key, static_cast<uint64_t>(block)), static_cast<uint32_t>(begin),
                 threshold, scale);
      begin = stop;
    }
  });
}

bool fusable(const at::Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kFloat; }

// y = dropout(x) + residual, the mask recomputed in the backward pass.
struct DropoutAdd : torch::autograd::Function<DropoutAdd> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const std::optional<at::Tensor>& residual, double p, int64_t key) {
    ctx->saved_data["p"] = p;
    ctx->saved_data["key"] = key;
    ctx->saved_data["residual"] = residual.has_value();
    const at::Tensor source = x.contiguous();
    const at::Tensor base = residual ? residual->contiguous() : at::Tensor();
    at::Tensor out = at::empty_like(source);
    drop(source.const_data_ptr<float>(), base.defined() ? base.const_data_ptr<float>() : nullptr,
         out.mutable_data_ptr<float>(), source.numel(), p, static_cast<uint64_t>(key));
    return out;
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const at::Tensor grad = grads[0].contiguous();
    at::Tensor out = at::empty_like(grad);
    drop(grad.const_data_ptr<float>(), nullptr, out.mutable_data_ptr<float>(), grad.numel(),
         ctx->saved_data["p"].toDouble(), static_cast<uint64_t>(ctx->saved_data["key"].toInt()));
    const at::Tensor grad_residual = ctx->saved_data["residual"].toBool() ? grad : at::Tensor();
    return {out, grad_residual, at::Tensor(), at::Tensor()};
  }
};

at::Tensor device_dropout(const at::Tensor& x, double p, uint64_t key) {
  seed_device(x.device(), key);
  return at::dropout(x, p, /*train=*/true);
}

}  // namespace

uint64_t DropoutStream::next() {
  CounterRng rng({seed_, step_, site_++});
  return rng.next();
}

void seed_device(at::Device device, uint64_t key) {
  at::Generator generator = at::globalContext().defaultGenerator(device);
  generator.set_current_seed(key);
}

uint64_t dropout_block_key(uint64_t key, uint64_t block) {
  return block == 0 ? key : mix(key + block);
}

at::Tensor dropout(const at::Tensor& x, double p, DropoutStream& stream) {
  if (!stream.training() || p == 0) return x;
  const uint64_t key = stream.next();
  if (fusable(x)) return DropoutAdd::apply(x, std::nullopt, p, static_cast<int64_t>(key));
  return x.is_cpu() ? x * dropout_mask(x, p, key) : device_dropout(x, p, key);
}

at::Tensor dropout_add(const at::Tensor& x, const at::Tensor& residual, double p,
                       DropoutStream& stream) {
  if (!stream.training() || p == 0) return residual + x;
  if (!fusable(x) || !fusable(residual)) return residual + dropout(x, p, stream);
  return DropoutAdd::apply(x, residual, p, static_cast<int64_t>(stream.next()));
}

at::Tensor dropout_mask(const at::Tensor& like, double p, uint64_t key) {
  at::Tensor mask = at::empty(like.sizes(), at::kFloat);
  const at::Tensor ones = at::ones(like.sizes(), at::kFloat);
  drop(ones.const_data_ptr<float>(), nullptr, mask.mutable_data_ptr<float>(), mask.numel(), p, key);
  return mask.to(like.scalar_type());
}

at::Tensor drop_path(const at::Tensor& x, double p, DropoutStream& stream) {
  if (!stream.training() || p == 0) return x;
  CounterRng rng({stream.next()});
  at::Tensor keep = at::empty({x.size(0)}, at::kFloat);
  for (int64_t i = 0; i < x.size(0); ++i)
    keep.mutable_data_ptr<float>()[i] = rng.bernoulli(p) ? 0.f : static_cast<float>(1 / (1 - p));
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
  shape[0] = x.size(0);
  return x * keep.view(shape).to(x.device(), x.scalar_type(), /*non_blocking=*/true);
}

}  // namespace quench
