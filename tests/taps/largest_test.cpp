#include "taps/largest.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/golden.h"

namespace quench {
namespace {

TEST(LargestValues, SayHowFarAboveTheMedianAndWhere) {
  // Two sequences of two tokens, three dimensions.
  const at::Tensor x = at::tensor({1.f, 2.f, 3.f, -60.f, 4.f, 0.f, 5.f, 6.f, -7.f, 1.f, 1.f, 1.f})
                           .view({2, 2, 3})
                           .to(testing::device());
  const at::Tensor ids = at::tensor({10, 11, 12, 11}, at::kLong).view({2, 2}).to(testing::device());
  LargestValues largest;
  EXPECT_TRUE(std::isnan(largest.max_to_median()));
  largest.add(x, ids);
  EXPECT_DOUBLE_EQ(largest.max_to_median(), (60. / 2 + 7. / 1) / 2);  // the lower of two medians
  EXPECT_EQ(dump(largest.to_json()),
            R"({"positions":[{"position":0,"share":0.5},{"position":1,"share":0.5}],)"
            R"("tokens":[{"id":11,"share":0.5},{"id":12,"share":0.5}],)"
            R"("dimensions":[{"dimension":0,"share":0.5},{"dimension":2,"share":0.5}]})");
}

TEST(LargestValues, NameTheThreeMostFrequentPlaces) {
  LargestValues largest;
  for (const int64_t position : {3, 1, 0, 2, 1, 3, 3}) {
    at::Tensor x = at::ones({1, 4, 2});
    x[0][position][1] = 9;
    largest.add(x.to(testing::device()), {});
  }
  const Json json = largest.to_json();
  EXPECT_FALSE(json.contains("tokens"));
  ASSERT_EQ(json.at("positions").size(), 3u);
  EXPECT_EQ(json.at("positions")[0].at("position"), 3);
  EXPECT_EQ(json.at("positions")[1].at("position"), 1);
  EXPECT_EQ(json.at("positions")[2].at("position"), 0);
  EXPECT_DOUBLE_EQ(largest.max_to_median(), 9);
}

}  // namespace
}  // namespace quench
