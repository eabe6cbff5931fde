#include "nn/transpose.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

namespace quench {
namespace {

void expect_transposed(const at::Tensor& x) {
  const at::Tensor y = transposed(x);
  EXPECT_TRUE(y.is_contiguous());
  EXPECT_TRUE(at::equal(y, x.t()));
}

TEST(Transposed, HoldsEveryElementOfAnyShape) {
  for (const int64_t rows : {0, 1, 7, 8, 63, 64, 65, 200})
    for (const int64_t columns : {0, 1, 5, 8, 16, 129}) {
      SCOPED_TRACE(std::to_string(rows) + " x " + std::to_string(columns));
      expect_transposed(at::arange(rows * columns, at::kFloat).view({rows, columns}));
    }
}

TEST(Transposed, DividesTheColumnsAmongThreads) {
  const int threads = at::get_num_threads();
  at::set_num_threads(2);
  expect_transposed(at::arange(70 * 333, at::kFloat).view({70, 333}));
  at::set_num_threads(threads);
}

TEST(Transposed, TakesAnyStrides) {
  const at::Tensor x = at::arange(20 * 18, at::kFloat).view({20, 18});
  expect_transposed(x.t());
  expect_transposed(x.slice(1, 1, 18, 2));
  expect_transposed(x.narrow(0, 0, 1).expand({20, 18}));
}

}  // namespace
}  // namespace quench
