// The clipped softmax of all 35 names of the reference, forward and backward, and the gate's logit,
// bit for bit.
#include <ATen/ATen.h>

#include <cmath>

#include "attention/gate.h"
#include "attention/normalizer.h"
#include "base/error.h"
#include "io/safetensors.h"
#include "tests/support/golden.h"

namespace quench {
namespace {

const std::string kUnits = std::string(QUENCH_TESTS_DIR) + "/golden/units/softmax";

// LibTorch's own softmax differs in its last bits between vector widths (the stored values come
// from an AVX2 machine); what quench adds to it, the stretch and the clip, is exact.
constexpr double kSoftmaxRounding = 2.4e-7;

TEST(SoftmaxUnits, AllNamesOfTheReference) {
  const Json units = testing::read_json(kUnits + ".json");
  const auto tensors = read_safetensors(kUnits + ".safetensors");
  ASSERT_EQ(units.at("softmax").size(), 35u);
  const at::Tensor vanilla = tensors.at("softmax.y.0");
  for (const Json& unit : units.at("softmax")) {
    const std::string index = std::to_string(unit.at("index").get<int>());
    const bool plain = unit.at("gamma").is_null();
    const Stretch stretch{plain ? 0 : unit.at("gamma").get<double>(),
                          plain ? 1 : unit.at("zeta").get<double>()};
    const at::Tensor expected = tensors.at("softmax.y." + index);
    if (!plain) {
      EXPECT_TRUE(at::equal(stretch_and_clip(vanilla, stretch), expected)) << unit.at("name");
    }

    const at::Tensor x = tensors.at("softmax.x").clone().requires_grad_();
    const at::Tensor p = at::softmax(x, -1), y = plain ? p : stretch_and_clip(p, stretch);
    EXPECT_LT(testing::max_difference(y, expected), kSoftmaxRounding) << unit.at("name");
    y.backward(tensors.at("softmax.dout"));
    const at::Tensor gradient = tensors.at("softmax.dx." + index);
    EXPECT_LT(testing::max_difference(x.grad(), gradient), 4 * kSoftmaxRounding) << unit.at("name");
    EXPECT_TRUE(at::equal(y == 0, expected == 0)) << unit.at("name");
  }
}

TEST(GateUnits, LogitIsTheReferences) {
  const Json units = testing::read_json(kUnits + ".json");
  for (const auto& [p, value] : units.at("logit").items())
    EXPECT_DOUBLE_EQ(logit(std::stod(p)), value.get<double>()) << p;
}

}  // namespace
}  // namespace quench
