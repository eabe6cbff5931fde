#include "eval/outliers.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "tests/support/golden.h"

namespace quench {
namespace {

PaperFigures figures_of_one_layer() {
  PaperFigures figures;
  figures.watched = {{"layer", "layers.0.output"}};
  figures.max_inf_norms = {{"max_inf_norm", ""}};
  figures.max_kurtoses = {};
  figures.token_rows = {"ffn.norm"};
  return figures;
}

// The taps of the report, once `x` has passed `first` and, doubled in place, the layer's output:
// only who measures again sees the second.
Json taps_of(const std::string& first, at::Tensor x) {
  OutlierListener listener(figures_of_one_layer());
  listener.activation(first, x);
  x.mul_(2);
  listener.activation("layers.0.output", x);
  return listener.report(1).at("taps");
}

TEST(OutlierListener, ATapThatHandsOnAnothersValueIsMeasuredWithIt) {
  const Json taps = taps_of("layers.0.ffn.residual", at::randn({2, 3, 4}).to(testing::device()));
  EXPECT_EQ(taps.size(), 2u);
  EXPECT_EQ(taps.at("layers.0.output"), taps.at("layers.0.ffn.residual"));
}

TEST(OutlierListener, ATapWithRowsOfAnotherKindIsMeasuredForItself) {
  const Json taps = taps_of("layers.0.ffn.norm", at::randn({2, 3, 4}).to(testing::device()));
  EXPECT_EQ(taps.at("layers.0.output").at("max_abs").get<double>(),
            2 * taps.at("layers.0.ffn.norm").at("max_abs").get<double>());
}

TEST(OutlierListener, OnlyWatches) {
  OutlierListener listener(figures_of_one_layer());
  EXPECT_FALSE(listener.replaces_weights());
  const at::Tensor x = at::randn({2, 3, 4}).to(testing::device());
  EXPECT_TRUE(listener.activation("layers.0.output", x).is_same(x));
}

}  // namespace
}  // namespace quench
