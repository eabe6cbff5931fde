#include "nn/dropout.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <vector>

#include "base/random.h"
#include "base/simd.h"
#include "nn/dropout_cuda.h"

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

// x [..., R, C] as rows of a larger tensor (RowBlock), element by element.
struct Layout {
  int64_t row_size, rows_in;
  RowBlock place;

  Layout(const at::Tensor& x, const RowBlock& where)
      : row_size(x.size(-1)), rows_in(x.dim() > 1 ? x.size(-2) : 1), place(where) {}
  // The element of the larger tensor that the first one of `row` is.
  int64_t first_element(int64_t row) const {
    return (row / rows_in * place.rows + place.first_row + row % rows_in) * place.columns;
  }
};

RowBlock whole(const at::Tensor& x) { return {0, x.dim() > 1 ? x.size(-2) : 1, x.size(-1)}; }

// out = residual (may be undefined) + dropout(x); all float32 on the CPU, contiguous.
at::Tensor cpu_dropout(const at::Tensor& x, const at::Tensor& residual, double p, uint64_t key,
                       const RowBlock& place) {
  at::Tensor result = at::empty_like(x);
  const Layout layout(x, place);
  const float* in = x.const_data_ptr<float>();
  const float* base = residual.defined() ? residual.const_data_ptr<float>() : nullptr;
  float* out = result.mutable_data_ptr<float>();
  const uint32_t threshold = dropout_threshold(p);
  const float scale = static_cast<float>(1 / (1 - p));
  at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t row = begin / layout.row_size;
      const int64_t element = layout.first_element(row) + begin - row * layout.row_size;
      const int64_t to_block = (((element >> 32) + 1) << 32) - element;
      const int64_t stop = std::min({end, (row + 1) * layout.row_size, begin + to_block});
      drop_range(in + begin, base ? base + begin : nullptr, out + begin, stop - begin,
                 dropout_block_key(key, static_cast<uint64_t>(element >> 32)),
                 static_cast<uint32_t>(element), threshold, scale);
      begin = stop;
    }
  });
  return result;
}

bool cpu_takes(const at::Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kFloat; }

// residual (may be undefined) + dropout(x).
at::Tensor drop(const at::Tensor& x, const at::Tensor& residual, double p, uint64_t key,
                const RowBlock& place) {
  const at::Tensor base = residual.defined() ? residual.contiguous() : residual;
  const bool with_residual =
      !base.defined() || (base.sizes() == x.sizes() && base.device() == x.device());
  if (with_residual && cpu_takes(x) && (!base.defined() || cpu_takes(base)))
    return cpu_dropout(x.contiguous(), base, p, key, place);
  if (with_residual && cuda_dropout_takes(x) && (!base.defined() || cuda_dropout_takes(base)))
    return cuda_dropout(x.contiguous(), base, p, key, place);
  const at::Tensor dropped = dropout_rows_composed(x, p, key, place);
  return base.defined() ? base + dropped : dropped;
}

// y = dropout(x) + residual, the mask formed again in the backward pass.
struct Dropout : torch::autograd::Function<Dropout> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const std::optional<at::Tensor>& residual, double p, int64_t key,
                            const RowBlock& place) {
    ctx->saved_data["p"] = p;
    ctx->saved_data["key"] = key;
    ctx->saved_data["residual"] = residual.has_value();
    ctx->saved_data["place"] = std::vector<int64_t>{place.first_row, place.rows, place.columns};
    return drop(x, residual.value_or(at::Tensor()), p, static_cast<uint64_t>(key), place);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const std::vector<int64_t> place = ctx->saved_data["place"].toIntVector();
    const at::Tensor grad =
        drop(grads[0], {}, ctx->saved_data["p"].toDouble(),
             static_cast<uint64_t>(ctx->saved_data["key"].toInt()), {place[0], place[1], place[2]});
    const at::Tensor grad_residual = ctx->saved_data["residual"].toBool() ? grads[0] : at::Tensor();
    return {grad, grad_residual, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

uint64_t DropoutStream::next() {
  CounterRng rng({seed_, step_, site_++});
  return rng.next();
}

uint64_t dropout_block_key(uint64_t key, uint64_t block) {
  return block == 0 ? key : mix(key + block);
}

at::Tensor dropout(const at::Tensor& x, double p, DropoutStream& stream) {
  if (!stream.training() || p == 0) return x;
  return dropout_rows(x, p, stream.next(), whole(x));
}

at::Tensor dropout_add(const at::Tensor& x, const at::Tensor& residual, double p,
                       DropoutStream& stream) {
  if (!stream.training() || p == 0) return residual + x;
  return Dropout::apply(x, residual, p, static_cast<int64_t>(stream.next()), whole(x));
}

at::Tensor dropout_rows(const at::Tensor& x, double p, uint64_t key, const RowBlock& place) {
  return Dropout::apply(x, std::nullopt, p, static_cast<int64_t>(key), place);
}

at::Tensor dropout_rows_composed(const at::Tensor& x, double p, uint64_t key,
                                 const RowBlock& place) {
  constexpr int64_t kLow = 0xffffffff;
  const auto indices = [&](int64_t n) { return at::arange(n, x.options().dtype(at::kLong)); };
  const Layout layout(x, place);
  const int64_t count = x.numel() / std::max<int64_t>(layout.row_size, 1);
  if (count == 0) return x;
  const at::Tensor row = indices(count).unsqueeze(1);
  const at::Tensor group = row.div(layout.rows_in, "floor");
  const at::Tensor first =
      (row + (group * (place.rows - layout.rows_in) + place.first_row)) * place.columns;
  at::Tensor hash = first + indices(layout.row_size);
  // The two halves of each element's key: one, but in tensors of more than 2^32 elements.
  const int64_t last_block = (layout.first_element(count - 1) + layout.row_size - 1) >> 32;
  std::vector<int64_t> low, high;
  for (int64_t block = 0; block <= last_block; ++block) {
    const uint64_t block_key = dropout_block_key(key, static_cast<uint64_t>(block));
    low.push_back(static_cast<int64_t>(block_key & kLow));
    high.push_back(static_cast<int64_t>(block_key >> 32));
  }
  const at::Tensor block = hash.bitwise_right_shift(32);
  const auto half = [&](const std::vector<int64_t>& keys) {
    return last_block == 0 ? at::full({}, keys[0], hash.options())
                           : at::tensor(keys, hash.options()).index({block});
  };
  const auto fold = [](at::Tensor& x, int64_t bits) {
    x.bitwise_xor_(x.bitwise_right_shift(bits));
  };
  hash.bitwise_and_(kLow).bitwise_xor_(half(low));
  fold(hash, 16);
  hash.mul_(0x7feb352d).add_(half(high)).bitwise_and_(kLow);
  fold(hash, 15);
  hash.mul_(0x846ca68b).bitwise_and_(kLow);
  fold(hash, 16);
  const at::Tensor kept = (hash >= static_cast<int64_t>(dropout_threshold(p))).view(x.sizes());
  const auto wide = at::promote_types(x.scalar_type(), at::kFloat);
  const at::Tensor scaled = x.to(wide) * static_cast<float>(1 / (1 - p));
  return at::where(kept, scaled, at::zeros({}, scaled.options())).to(x.scalar_type());
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
