// What only ViT has: the LayerNorm of patches, stochastic depth, and what timm does not decay.
#include "models/vit.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "base/error.h"
#include "optimizers/adamw.h"
#include "tests/support/capture.h"

namespace quench {
namespace {

class VitTest : public ::testing::Test {
 protected:
  VitTest() {
    config_.num_labels = 3;
    config_.hidden_size = 16;
    config_.num_hidden_layers = 3;
    config_.num_attention_heads = 2;
    config_.intermediate_size = 32;
    config_.image_size = 8;
    config_.patch_size = 4;
    config_.initializer_range = 0.5;
  }

  std::unique_ptr<Model> build() const {
    auto model = config_.build({}, config_.max_positions());
    model->parameters.initialize(1);
    model->parameters.to(at::kCPU, at::kFloat);
    return model;
  }

  VitConfig config_;
};

std::map<std::string, at::Tensor> taps_of(const Model& model, int64_t samples,
                                          const DropoutStream& stream) {
  at::NoGradGuard no_grad;
  testing::Capture capture;
  ForwardContext context{Taps({&capture}), stream};
  Batch batch;
  batch.pixel_values = at::sin(at::arange(samples * 3 * 64, at::kFloat)).view({samples, 3, 8, 8});
  model.forward(batch, context);
  return capture.seen;
}

TEST_F(VitTest, NormalizesPatchesWhereItIsAskedTo) {
  EXPECT_FALSE(taps_of(*build(), 2, {}).contains("embeddings.norm"));
  config_.patch_norm = true;
  const auto model = build();
  auto seen = taps_of(*model, 2, {});
  const at::Tensor expected =
      at::layer_norm(seen.at("embeddings.patch"), {16}, {}, {}, config_.layer_norm_eps);
  EXPECT_TRUE(at::allclose(seen.at("embeddings.norm"), expected, 0, 1e-6));
  // [CLS] is not a patch.
  std::map<std::string, at::Tensor> values;
  for (auto& [name, value] : model->parameters.named_values()) values[name] = value;
  const at::Tensor embedded =
      seen.at("embeddings.sum") - values.at("vit.embeddings.position_embeddings");
  EXPECT_TRUE(at::allclose(embedded.narrow(1, 1, 4), expected, 0, 1e-6));
  EXPECT_TRUE(at::allclose(embedded.select(1, 0),
                           values.at("vit.embeddings.cls_token").view({1, 16}).expand({2, 16}), 0,
                           1e-6));
}

// The share of samples whose branch was dropped: their residual stream is as it was.
double dropped(const at::Tensor& before, const at::Tensor& after) {
  return (before == after).flatten(1).all(1).to(at::kDouble).mean().item<double>();
}

TEST_F(VitTest, DropsBranchesMoreOftenTheDeeperTheyAre) {
  config_.drop_path_rate = 0.6;
  const auto model = build();
  const int64_t samples = 1000;
  for (const bool training : {true, false}) {
    const auto seen = taps_of(*model, samples, training ? DropoutStream(3, 5) : DropoutStream());
    at::Tensor before = seen.at("embeddings.sum");
    for (int layer = 0; layer < 3; ++layer) {
      const double rate = training ? 0.3 * layer : 0;
      const double deviation = 5 * std::sqrt(rate * (1 - rate) / static_cast<double>(samples));
      for (const char* branch : {"attention.residual", "ffn.residual"}) {
        const at::Tensor& after = seen.at(concat("layers.", layer, ".", branch));
        EXPECT_NEAR(dropped(before, after), rate, deviation) << layer << " " << branch;
        before = after;
      }
    }
  }
}

TEST_F(VitTest, LeavesOutOfWeightDecayWhatTimmDoes) {
  config_.patch_norm = true;
  const auto model = build();
  AdamWConfig optimizer;
  optimizer.weight_decay = 0.1;
  for (const auto& [decay, names] : optimizer.build(model->parameters)->groups()) {
    for (const std::string& name : names) {
      const bool weight_of_a_map = name.ends_with("weight") && !name.ends_with("norm.weight") &&
                                   !name.ends_with("layernorm_before.weight") &&
                                   !name.ends_with("layernorm_after.weight");
      EXPECT_EQ(decay, weight_of_a_map ? 0.1 : 0) << name;
    }
  }
}

}  // namespace
}  // namespace quench
