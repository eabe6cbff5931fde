// Moving heads between the two layouts, against views.
#include "attention/heads_cuda.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/support/golden.h"

namespace quench {
namespace {

TEST(Heads, AreSplitWithZerosBehindTheTokensAndMergedAgain) {
  const int64_t batch = 3, tokens = 5, heads = 2, length = 8;
  for (const int64_t parts : {1, 3})
    for (const int64_t head_size : {3, 8})  // without and with whole chunks of 16 bytes
      for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
        const at::Tensor x =
            at::randn({batch, tokens, parts * heads * head_size}).to(testing::device(), dtype);
        const at::Tensor split = split_heads(x, parts, heads, length);
        ASSERT_EQ(split.sizes(), at::IntArrayRef({parts, batch * heads, length, head_size}));
        const at::Tensor expected =
            x.view({batch, tokens, parts, heads, head_size}).permute({2, 0, 3, 1, 4});
        const at::Tensor by_head = split.view({parts, batch, heads, length, head_size});
        EXPECT_TRUE(at::equal(by_head.slice(3, 0, tokens), expected));
        EXPECT_EQ(by_head.slice(3, tokens).abs().sum().item<double>(), 0);
        EXPECT_TRUE(at::equal(merge_heads(split, batch, tokens), x));
      }
}

}  // namespace
}  // namespace quench
