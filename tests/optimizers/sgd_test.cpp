// The fused SGD against the formula in float64.
#include "optimizers/sgd.h"

#include "base/error.h"
#include "tests/io/temporary_folder.h"
#include "tests/optimizers/weights.h"

namespace quench {
namespace {

class SgdTest : public OptimizerTest, public ::testing::WithParamInterface<std::string> {};

// torch.optim.SGD's own pseudo-code, in float64.
TEST_P(SgdTest, FollowsTheFormula) {
  SgdConfig config;
  config::read_with(config::parse(GetParam(), {"test", 1}),
                    [&](config::Fields& f) { config.describe(f); });
  const auto optimizer = config.build(parameters_);
  std::vector<at::Tensor> expected, buffers;
  for (const at::Tensor& value : values()) {
    expected.push_back(value.to(at::kDouble));
    buffers.push_back(at::zeros_like(expected.back()));
  }
  for (int64_t step = 0; step < 5; ++step) {
    const std::vector<at::Tensor> gradients = set_gradients(step);
    const double rate = 0.1 * static_cast<double>(step + 1);
    optimizer->step(rate_of(rate), number(0.5), number(step == 2));
    if (step == 2) continue;
    for (size_t i = 0; i < gradients.size(); ++i) {
      const double decay = i == 0 ? config.weight_decay : 0;
      const at::Tensor g = 0.5 * gradients[i].to(at::kDouble) + decay * expected[i];
      buffers[i] = config.momentum * buffers[i] + g;
      expected[i] =
          expected[i] - rate * (config.nesterov ? g + config.momentum * buffers[i] : buffers[i]);
    }
  }
  for (size_t i = 0; i < expected.size(); ++i)  // float32 rounding of five steps
    EXPECT_LT(testing::max_difference(values()[i], expected[i]), 1e-6) << i;
  EXPECT_EQ(optimizer->state().size(), config.momentum > 0 ? 1u + 4 : 1u);
}

INSTANTIATE_TEST_SUITE_P(All, SgdTest,
                         ::testing::Values("{}", "{momentum: 0}", "{weight_decay: 0.1}",
                                           "{momentum: 0.5, nesterov: true, weight_decay: 0.1}"));

TEST(Sgd, NesterovNeedsMomentum) {
  SgdConfig config;
  const config::Node node = config::parse("{momentum: 0, nesterov: true}", {"test", 1});
  const auto read = [&] {
    config::read_with(node, [&](config::Fields& f) { config.describe(f); });
  };
  EXPECT_NE(error_of(read).find("no meaning with momentum 0"), std::string::npos);
}

}  // namespace
}  // namespace quench
