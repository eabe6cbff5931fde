#include "nn/dropout.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/golden.h"

namespace quench {
namespace {

constexpr uint64_t kSeed = 7, kStep = 3;

DropoutStream stream(uint64_t step = kStep) { return {kSeed, step}; }

// The first site of stream(step).
DropoutSite first_site(uint64_t step = kStep) { return stream(step).next(); }

at::Tensor dropped(const at::Tensor& x, double p, uint64_t step = kStep) {
  DropoutStream s = stream(step);
  return dropout(x, p, s);
}

// 0 or 1 / (1 - p), by the definition.
at::Tensor mask_of(const at::Tensor& x, double p) {
  return dropout_rows_composed(at::ones_like(x.detach()), p, first_site(),
                               {0, x.dim() > 2 ? x.size(-2) : 1, x.size(-1)});
}

double zeros_share(const at::Tensor& x) { return (x == 0).to(at::kDouble).mean().item<double>(); }

TEST(Dropout, DropsTheAskedShareAndScalesTheRest) {
  const int64_t n = 1'000'000;
  for (const double p : {0.01, 0.1, 0.5, 0.9}) {
    const at::Tensor y = dropped(at::ones({n}), p);
    EXPECT_NEAR(zeros_share(y), p, 5 * std::sqrt(p * (1 - p) / static_cast<double>(n))) << p;
    const at::Tensor kept = y.masked_select(y != 0);
    EXPECT_TRUE(kept.eq(static_cast<float>(1 / (1 - p))).all().item<bool>()) << p;
  }
}

TEST(Dropout, DropsElementsIndependentlyOfTheirNeighbours) {
  const at::Tensor kept = dropped(at::ones({1 << 20}), 0.5).ne(0).to(at::kDouble) * 2 - 1;
  for (const int64_t lag : {1, 2, 8, 64, 768, 1 << 16}) {
    const int64_t n = kept.numel() - lag;
    const double correlation =
        (kept.narrow(0, 0, n) * kept.narrow(0, lag, n)).mean().item<double>();
    EXPECT_LT(std::abs(correlation), 5 / std::sqrt(static_cast<double>(n))) << lag;
  }
}

TEST(Dropout, MaskIsAFunctionOfSeedStepAndSite) {
  const at::Tensor x = at::ones({64, 1024});
  DropoutStream a = stream(), b = stream();
  const at::Tensor first = dropout(x, 0.3, a), second = dropout(x, 0.3, a);
  EXPECT_TRUE(at::equal(first, dropout(x, 0.3, b)));
  EXPECT_TRUE(at::equal(second, dropout(x, 0.3, b)));

  DropoutStream other_seed(kSeed + 1, kStep);
  for (const at::Tensor& other :
       {second, dropped(x, 0.3, kStep + 1), dropout(x, 0.3, other_seed)}) {
    // Independent masks drop the same element with probability p^2.
    const at::Tensor both = (first == 0).logical_and(other == 0);
    EXPECT_NEAR(both.to(at::kDouble).mean().item<double>(), 0.09, 0.01);
  }
}

TEST(Dropout, DoesNotDependOnTheNumberOfThreads) {
  const at::Tensor x = at::randn({3, 100'003}), residual = at::randn({3, 100'003});
  const int threads = at::get_num_threads();
  std::vector<at::Tensor> results;
  for (const int count : {1, 2, 5}) {
    at::set_num_threads(count);
    DropoutStream s = stream();
    results.push_back(dropout_add(x, residual, 0.1, s));
  }
  at::set_num_threads(threads);
  EXPECT_TRUE(at::equal(results[0], results[1]));
  EXPECT_TRUE(at::equal(results[0], results[2]));
}

TEST(Dropout, BackwardUsesTheMaskOfTheForwardPass) {
  const at::Tensor x = at::randn({5, 7, 33}).requires_grad_();
  const at::Tensor upstream = at::randn({5, 7, 33});
  const at::Tensor y = dropped(x, 0.4);
  y.backward(upstream);
  const at::Tensor mask = mask_of(x, 0.4);
  EXPECT_TRUE(at::equal(y.detach(), x.detach() * mask));
  EXPECT_TRUE(at::equal(x.grad(), upstream * mask));
}

TEST(DropoutAdd, IsResidualPlusMaskedInput) {
  const at::Tensor x = at::randn({5, 7, 33}).requires_grad_();
  const at::Tensor residual = at::randn({5, 7, 33}).requires_grad_();
  const at::Tensor upstream = at::randn({5, 7, 33});
  DropoutStream s = stream();
  const at::Tensor y = dropout_add(x, residual, 0.4, s);
  y.backward(upstream);
  const at::Tensor mask = mask_of(x, 0.4);
  EXPECT_TRUE(at::allclose(y.detach(), residual.detach() + mask * x.detach(), 0, 1e-6));
  EXPECT_TRUE(at::equal(x.grad(), upstream * mask));
  EXPECT_TRUE(at::equal(residual.grad(), upstream));
}

TEST(DropoutAdd, TakesAnyStrides) {
  const at::Tensor x = at::randn({40, 30}).t(), residual = at::randn({60, 40}).slice(0, 0, 60, 2);
  DropoutStream a = stream(), b = stream();
  EXPECT_TRUE(at::equal(dropout_add(x, residual, 0.4, a),
                        dropout_add(x.contiguous(), residual.contiguous(), 0.4, b)));
}

TEST(DropoutAdd, HasTheSameMaskInFloat64) {
  const at::Tensor x = at::randn({9, 50}), residual = at::randn({9, 50});
  for (const bool add : {false, true}) {
    DropoutStream narrow = stream(), wide = stream();
    const at::Tensor wide_x = x.to(at::kDouble).requires_grad_();
    const at::Tensor y = add ? dropout_add(x, residual, 0.2, narrow) : dropout(x, 0.2, narrow);
    const at::Tensor z =
        add ? dropout_add(wide_x, residual.to(at::kDouble), 0.2, wide) : dropout(wide_x, 0.2, wide);
    EXPECT_EQ(z.scalar_type(), at::kDouble);
    EXPECT_TRUE(at::allclose(y.to(at::kDouble), z.detach(), 0, 1e-5));
    z.sum().backward();
    const at::Tensor mask = mask_of(wide_x, 0.2);
    EXPECT_TRUE(at::equal(wide_x.grad(), mask));
    EXPECT_EQ(narrow.next().key, wide.next().key) << "both paths use one site";
  }
}

TEST(Dropout, IsTheIdentityInEvaluationAndAtRateZero) {
  const at::Tensor x = at::randn({4, 5}), residual = at::randn({4, 5});
  DropoutStream evaluation, training = stream();
  EXPECT_TRUE(at::equal(dropout(x, 0.5, evaluation), x));
  EXPECT_TRUE(at::equal(dropout_add(x, residual, 0.5, evaluation), residual + x));
  EXPECT_TRUE(at::equal(drop_path(x, 0.5, evaluation), x));
  EXPECT_TRUE(at::equal(dropout(x, 0, training), x));
  EXPECT_TRUE(at::equal(dropout_add(x, residual, 0, training), residual + x));
  EXPECT_TRUE(at::equal(drop_path(x, 0, training), x));
}

// The loop of the CPU, or the kernel of a GPU, against tensor operations on the CPU.
TEST(Dropout, EqualsItsDefinitionOnTheDevice) {
  struct Shape {
    std::vector<int64_t> sizes;
    RowPlace place;
  };
  const int64_t huge = int64_t{1} << 21;
  for (const Shape& s : {Shape{{2, 3, 8, 64}, {0, 8, 64}}, Shape{{5, 33}, {0, 1, 33}},
                         Shape{{2, 3, 4, 10}, {3, 12, 16}},             // rows 3 to 6 of 12
                         Shape{{2, 6, 8}, {huge - 3, 2 * huge, 2048}},  // around element 2^32
                         Shape{{3, 2, 7}, {0, 2 * huge, 4096}}})        // a block of its own each
    for (const at::ScalarType dtype : {at::kFloat, at::kHalf, at::kBFloat16}) {
      const at::Tensor x = at::randn(s.sizes).to(dtype);
      const at::Tensor expected = dropout_rows_composed(x, 0.3, first_site(), s.place);
      const at::Tensor y =
          dropout_rows(x.to(testing::device()), 0.3, first_site(), s.place).to(at::kCPU);
      EXPECT_TRUE(at::equal(y, expected)) << x.sizes() << " " << dtype;
      EXPECT_EQ(y.scalar_type(), dtype);
    }
}

TEST(Dropout, HasTheMaskOfTheWholeInEachOfItsRows) {
  const at::Tensor x = at::randn({2, 3, 10, 12}).to(testing::device());
  DropoutStream s = stream();
  const at::Tensor whole = dropout(x, 0.4, s);
  const at::Tensor part =
      dropout_rows(x.narrow(2, 4, 5).narrow(3, 0, 7), 0.4, first_site(), {4, x.size(2), x.size(3)});
  EXPECT_TRUE(at::equal(part, whole.narrow(2, 4, 5).narrow(3, 0, 7)));
}

// A step's samples have the same masks in one pass and in several, in every dtype.
TEST(Dropout, HasTheMaskOfTheStepInEachOfItsPasses) {
  for (const std::vector<int64_t>& sizes :
       {std::vector<int64_t>{6, 40}, {6, 5, 12}, {6, 3, 5, 5}, {6, 2, 3, 4, 5}})
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
      const at::Tensor x = at::randn(sizes).to(testing::device(), dtype);
      DropoutStream step = stream();
      const at::Tensor whole = dropout(x, 0.4, step), paths = drop_path(x, 0.4, step);
      for (const int64_t first : {0, 2, 5}) {
        const at::Tensor part = x.narrow(0, first, std::min<int64_t>(2, 6 - first));
        DropoutStream pass(kSeed, kStep, first);
        EXPECT_TRUE(at::equal(dropout(part, 0.4, pass), whole.narrow(0, first, part.size(0))))
            << x.sizes() << " from " << first;
        EXPECT_TRUE(at::equal(drop_path(part, 0.4, pass), paths.narrow(0, first, part.size(0))))
            << x.sizes() << " from " << first;
      }
    }
}

TEST(DropoutAdd, HasTheMaskOfTheWholeInChosenRows) {
  for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kDouble}) {
    const at::Tensor x = at::randn({4, 5, 12}).to(testing::device(), dtype),
                     residual = at::randn({4, 5, 12}).to(testing::device(), dtype);
    DropoutStream step = stream();
    const at::Tensor whole = dropout_add(x, residual, 0.4, step);
    const at::Tensor index = at::tensor({14, 3, 3, 0, 9}, at::kLong).to(testing::device());
    const auto chosen = [&](const at::Tensor& all, int64_t first) {
      return all.narrow(0, first, 4 - first)
          .flatten(0, 1)
          .index_select(0, index % (5 * (4 - first)));
    };
    for (const int64_t first : {0, 1}) {  // a pass's rows are counted from its first sample
      DropoutStream pass(kSeed, kStep, first);
      const at::Tensor rows = chosen(x, first).requires_grad_();
      const at::Tensor y = dropout_add(rows, chosen(residual, first), 0.4, pass,
                                       {0, 5, 12, index % (5 * (4 - first))});
      EXPECT_TRUE(at::equal(y.detach(), chosen(whole, first))) << dtype << " from " << first;
      y.sum().backward();
      EXPECT_TRUE(at::equal(rows.grad() == 0, chosen(whole, first) == chosen(residual, first)));
    }
  }
}

TEST(DropoutAdd, SumsInTheWiderOfTwoDtypes) {
  const at::Tensor x = at::randn({4, 6, 32}).to(testing::device(), at::kBFloat16).requires_grad_();
  const at::Tensor residual = at::randn({4, 6, 32}).to(testing::device());
  DropoutStream a = stream(), b = stream();
  const at::Tensor y = dropout_add(x, residual, 0.4, a);
  EXPECT_EQ(y.scalar_type(), at::kFloat);
  EXPECT_TRUE(at::equal(y.detach(), residual + dropout(x.detach(), 0.4, b).to(at::kFloat)));
  y.sum().backward();
  EXPECT_EQ(x.grad().scalar_type(), at::kBFloat16);
}

TEST(Dropout, KeysTheBlocksOfLargeTensorsApart) {
  const uint64_t key = first_site().key;
  EXPECT_EQ(dropout_block_key(key, 0), key);
  EXPECT_NE(dropout_block_key(key, 1), key);
  EXPECT_NE(dropout_block_key(key, 1), dropout_block_key(key, 2));
}

TEST(DropPath, DropsWholeSamplesAndScalesTheRest) {
  const int64_t batch = 4000;
  const double p = 0.2;
  const at::Tensor x = at::ones({batch, 2, 3}).requires_grad_();
  DropoutStream s = stream();
  const at::Tensor y = drop_path(x, p, s);
  y.sum().backward();
  EXPECT_TRUE(at::equal(x.grad(), y.detach()));
  const at::Tensor samples = y.detach().view({batch, 6});
  EXPECT_TRUE(at::equal(samples, samples.select(1, 0).unsqueeze(1).expand({batch, 6})));
  EXPECT_NEAR(zeros_share(samples), p, 5 * std::sqrt(p * (1 - p) / static_cast<double>(batch)));
  EXPECT_EQ(samples.max().item<float>(), static_cast<float>(1 / (1 - p)));

  DropoutStream again = stream();
  EXPECT_TRUE(at::equal(y.detach(), drop_path(x.detach(), p, again)));
  EXPECT_FALSE(at::equal(y.detach(), drop_path(x.detach(), p, again))) << "the next site";
}

}  // namespace
}  // namespace quench
