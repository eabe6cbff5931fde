#include "attention/heads_cuda.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "device/cuda_kernel.h"

namespace quench {
namespace {

// A thread moves 16 bytes; a head's row of a token has CHUNKS of them. SPLIT: from tokens to heads,
// else back.
constexpr char kSource[] = R"(
extern "C" __global__ void move_heads(const uint4* from, uint4* to, u32 count, u32 parts, u32 batch, u32 heads,
                                      u32 tokens, u32 length) {
  const u32 index = blockIdx.x * blockDim.x + threadIdx.x;  // of the side by heads
  if (index >= count) return;
  u32 rest = index / CHUNKS;
  const u32 chunk = index - rest * CHUNKS;
  const u32 token = rest % length;
  rest /= length;
  const u32 head = rest % heads;
  rest /= heads;
  const u32 sample = rest % batch, part = rest / batch;
  const u64 by_token = ((((u64)sample * tokens + token) * parts + part) * heads + head) * CHUNKS + chunk;
#if SPLIT
  to[index] = token < tokens ? from[by_token] : make_uint4(0, 0, 0, 0);
#else
  if (token < tokens) to[by_token] = from[index];
#endif
}
)";

struct Shape {
  int64_t parts, batch, heads, tokens, length, head_size;
};

// Whether there is a kernel, and its indices and chunks fit.
bool kernel_takes(const at::Tensor& by_head, const at::Tensor& by_token, const Shape& s) {
  const auto aligned = [](const at::Tensor& x) {
    return reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0;
  };
  const int64_t row = s.head_size * by_head.element_size();
  return by_head.is_cuda() && row % 16 == 0 && by_head.nbytes() / 16 < (size_t{1} << 31) &&
         aligned(by_head) && aligned(by_token);
}

void move_heads(bool split, const at::Tensor& by_head, const at::Tensor& by_token, const Shape& s) {
  static CudaKernels kernels;
  constexpr uint32_t kThreads = 256;
  const auto narrow = [](int64_t x) { return static_cast<uint32_t>(x); };
  const uint32_t count = narrow(static_cast<int64_t>(by_head.nbytes()) / 16),
                 parts = narrow(s.parts), batch = narrow(s.batch), heads = narrow(s.heads),
                 tokens = narrow(s.tokens), length = narrow(s.length);
  const void* from = (split ? by_token : by_head).const_data_ptr();
  void* to = (split ? by_head : by_token).mutable_data_ptr();
  kernels
      .get("move_heads",
           concat("#define SPLIT ", split ? 1 : 0, "\n#define CHUNKS ",
                  s.head_size * by_head.element_size() / 16, "u\n"),
           {kCudaNumbers, kSource})
      .launch(by_head.device(), (count + kThreads - 1) / kThreads, kThreads,
              {&from, &to, &count, &parts, &batch, &heads, &tokens, &length});
}

}  // namespace

at::Tensor split_heads(const at::Tensor& x, int64_t parts, int64_t heads, int64_t length) {
  const Shape s{parts, x.size(0), heads, x.size(1), length, x.size(2) / parts / heads};
  const at::Tensor source = x.contiguous();
  const at::Tensor out = at::empty({parts, s.batch * heads, length, s.head_size}, x.options());
  if (kernel_takes(out, source, s)) {
    move_heads(/*split=*/true, out, source, s);
  } else {
    const at::Tensor view = out.unflatten(1, {s.batch, heads});
    view.slice(3, s.tokens).zero_();
    view.slice(3, 0, s.tokens)
        .copy_(source.unflatten(2, {parts, heads, s.head_size}).permute({2, 0, 3, 1, 4}));
  }
  return out;
}

at::Tensor merge_heads(const at::Tensor& x, int64_t batch, int64_t tokens) {
  const Shape s{x.size(0), batch, x.size(1) / batch, tokens, x.size(2), x.size(3)};
  const at::Tensor source = x.contiguous();
  const at::Tensor out = at::empty({batch, tokens, s.parts * s.heads * s.head_size}, x.options());
  if (kernel_takes(source, out, s)) {
    move_heads(/*split=*/false, source, out, s);
  } else {
    out.unflatten(2, {s.parts, s.heads, s.head_size})
        .copy_(source.unflatten(1, {batch, s.heads}).slice(3, 0, tokens).permute({1, 3, 0, 2, 4}));
  }
  return out;
}

}  // namespace quench
