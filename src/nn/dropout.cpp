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

RowPlace whole(const at::Tensor& x) { return {0, x.dim() > 2 ? x.size(-2) : 1, x.size(-1)}; }

// out = residual (may be undefined) + dropout(x); all float32 on the CPU, contiguous.
at::Tensor cpu_dropout(const at::Tensor& x, const at::Tensor& residual, double p,
                       const DropoutSite& site, const RowPlace& place) {
  at::Tensor result = at::empty_like(x);
  const int64_t row_size = x.size(-1), rows_in = rows_of_group(x, place),
                first = first_element(x, site, place);
  const int64_t* index = place.index.defined() ? place.index.const_data_ptr<int64_t>() : nullptr;
  const float* in = x.const_data_ptr<float>();
  const float* base = residual.defined() ? residual.const_data_ptr<float>() : nullptr;
  float* out = result.mutable_data_ptr<float>();
  const uint32_t threshold = dropout_threshold(p);
  const float scale = static_cast<float>(1 / (1 - p));
  at::parallel_for(0, x.numel(), kGrain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t row = begin / row_size;
      const int64_t row_of_whole = index ? index[row] : row / rows_in * place.rows + row % rows_in;
      const int64_t element = first + row_of_whole * place.columns + begin - row * row_size;
      const int64_t to_block = (((element >> 32) + 1) << 32) - element;
      const int64_t stop = std::min({end, (row + 1) * row_size, begin + to_block});
      drop_range(in + begin, base ? base + begin : nullptr, out + begin, stop - begin,
                 dropout_block_key(site.key, static_cast<uint64_t>(element >> 32)),
                 static_cast<uint32_t>(element), threshold, scale);
      begin = stop;
    }
  });
  return result;
}

bool cpu_takes(const at::Tensor& x) { return x.is_cpu() && x.scalar_type() == at::kFloat; }

// residual (may be undefined) + dropout(x).
at::Tensor drop(const at::Tensor& x, const at::Tensor& residual, double p, const DropoutSite& site,
                const RowPlace& place) {
  const at::Tensor base = residual.defined() ? residual.contiguous() : residual;
  const bool with_residual =
      !base.defined() || (base.sizes() == x.sizes() && base.device() == x.device());
  if (with_residual && cpu_takes(x) && (!base.defined() || cpu_takes(base)))
    return cpu_dropout(x.contiguous(), base, p, site, place);
  if (with_residual && cuda_dropout_takes(x) && (!base.defined() || cuda_dropout_takes(base)))
    return cuda_dropout(x.contiguous(), base, p, site, place);
  const at::Tensor dropped = dropout_rows_composed(x, p, site, place);
  return base.defined() ? base + dropped : dropped;
}

// y = dropout(x) + residual, the mask formed again in the backward pass.
struct Dropout : torch::autograd::Function<Dropout> {
  static at::Tensor forward(torch::autograd::AutogradContext* ctx, const at::Tensor& x,
                            const std::optional<at::Tensor>& residual, double p,
                            const DropoutSite& site, const RowPlace& place) {
    ctx->save_for_backward({place.index});
    ctx->saved_data["p"] = p;
    ctx->saved_data["key"] = static_cast<int64_t>(site.key);
    ctx->saved_data["first_sample"] = site.first_sample;
    ctx->saved_data["residual"] = residual.has_value();
    ctx->saved_data["place"] = std::vector<int64_t>{place.first_row, place.rows, place.columns};
    return drop(x, residual.value_or(at::Tensor()), p, site, place);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* ctx,
                                                 torch::autograd::variable_list grads) {
    const std::vector<int64_t> place = ctx->saved_data["place"].toIntVector();
    const DropoutSite site{static_cast<uint64_t>(ctx->saved_data["key"].toInt()),
                           ctx->saved_data["first_sample"].toInt()};
    const at::Tensor grad = drop(grads[0], {}, ctx->saved_data["p"].toDouble(), site,
                                 {place[0], place[1], place[2], ctx->get_saved_variables()[0]});
    const at::Tensor grad_residual = ctx->saved_data["residual"].toBool() ? grads[0] : at::Tensor();
    return {grad, grad_residual, at::Tensor(), at::Tensor(), at::Tensor()};
  }
};

}  // namespace

DropoutSite DropoutStream::next() {
  CounterRng rng({seed_, step_, site_++});
  return {rng.next(), first_sample_};
}

int64_t first_element(const at::Tensor& x, const DropoutSite& site, const RowPlace& place) {
  int64_t groups = 1;  // of a sample
  for (int64_t i = 1; i + 2 < x.dim(); ++i) groups *= x.size(i);
  return (site.first_sample * groups * place.rows + place.first_row) * place.columns;
}

int64_t rows_of_group(const at::Tensor& x, const RowPlace& place) {
  return place.index.defined() ? x.size(0) : x.dim() > 2 ? x.size(-2) : 1;
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
  return dropout_add(x, residual, p, stream, whole(x));
}

at::Tensor dropout_add(const at::Tensor& x, const at::Tensor& residual, double p,
                       DropoutStream& stream, const RowPlace& place) {
  if (!stream.training() || p == 0) return residual + x;
  return Dropout::apply(x, residual, p, stream.next(), place);
}

at::Tensor dropout_rows(const at::Tensor& x, double p, const DropoutSite& site,
                        const RowPlace& place) {
  return Dropout::apply(x, std::nullopt, p, site, place);
}

at::Tensor dropout_rows_composed(const at::Tensor& x, double p, const DropoutSite& site,
                                 const RowPlace& place) {
  constexpr int64_t kLow = 0xffffffff;
  const auto indices = [&](int64_t n) { return at::arange(n, x.options().dtype(at::kLong)); };
  if (x.numel() == 0) return x;
  const int64_t row_size = x.size(-1), rows_in = rows_of_group(x, place);
  const at::Tensor row = indices(x.numel() / row_size);
  const at::Tensor row_of_whole = place.index.defined()
                                      ? place.index
                                      : row + row.div(rows_in, "floor") * (place.rows - rows_in);
  at::Tensor hash = (row_of_whole.unsqueeze(1) * place.columns + indices(row_size))
                        .add_(first_element(x, site, place));
  // The two halves of each element's key: one, but in tensors of more than 2^32 elements.
  const int64_t last =
      place.index.defined()
          ? hash.max().item<int64_t>()
          : first_element(x, site, place) + row_size - 1 +
                (rows_in - 1 + (x.numel() / row_size / rows_in - 1) * place.rows) * place.columns;
  const int64_t last_block = last >> 32;
  std::vector<int64_t> low, high;
  for (int64_t block = 0; block <= last_block; ++block) {
    const uint64_t block_key = dropout_block_key(site.key, static_cast<uint64_t>(block));
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
  std::vector<int64_t> shape(static_cast<size_t>(x.dim()), 1);
  shape[0] = x.size(0);
  return x * dropout(at::ones(shape, x.options()), p, stream);
}

}  // namespace quench
