// What a model's blocks may have beyond Hugging Face's: norms on the branches, projections of the
// embedding, registers.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include "base/error.h"
#include "models/opt.h"
#include "models/vit.h"
#include "tests/models/tiny_bert.h"
#include "tests/support/capture.h"
#include "tests/support/golden.h"

namespace quench {
namespace {

std::map<std::string, at::Tensor> taps_of(const Model& model, const Batch& batch) {
  const at::NoGradGuard no_grad;
  testing::Capture capture;
  ForwardContext context{Taps({&capture}), DropoutStream()};
  model.forward(batch, context, Want::kLogits);
  return capture.seen;
}

std::unique_ptr<Model> built(const ModelConfig& config) {
  std::unique_ptr<Model> model = config.build({}, config.max_positions());
  model->parameters.initialize(5);
  model->parameters.to(at::kCPU, at::kFloat);
  return model;
}

OptConfig tiny_opt() {
  OptConfig config;
  config.vocab_size = 32;
  config.hidden_size = 8;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 2;
  config.ffn_dim = 16;
  config.max_position_embeddings = 8;
  return config;
}

at::Tensor rms(const at::Tensor& x, double eps) {
  return x / (x.square().mean(-1, /*keepdim=*/true) + eps).sqrt();
}

TEST(Blocks, ASandwichNormalizesEachBranchBeforeItsSum) {
  OptConfig opt = tiny_opt();
  opt.blocks = {"rms", true};
  const auto pre = taps_of(*built(opt), tiny_batch(1));
  const std::string at = "layers.0.";
  const auto near = [](const at::Tensor& a, const at::Tensor& b) {
    return at::allclose(a, b, 1e-5, 1e-5);
  };
  EXPECT_TRUE(near(pre.at(at + "attention.branch_norm"),
                   rms(pre.at(at + "attention.output"), opt.layer_norm_eps)));
  EXPECT_TRUE(near(pre.at(at + "attention.residual"),
                   pre.at("embeddings.sum") + pre.at(at + "attention.branch_norm")));
  EXPECT_TRUE(
      near(pre.at(at + "ffn.residual"),
           pre.at(at + "attention.residual") + rms(pre.at(at + "ffn.output"), opt.layer_norm_eps)));

  const auto bert = tiny_bert_config();
  bert->blocks = {"rms", true};
  const auto post = taps_of(*built(*bert), tiny_batch(1));
  EXPECT_TRUE(near(
      post.at(at + "output"),
      rms(post.at(at + "attention.norm") + post.at(at + "ffn.branch_norm"), bert->layer_norm_eps)));
}

TEST(Blocks, TheProjectionOfTheEmbeddingStandsAtBothEnds) {
  OptConfig opt = tiny_opt();
  opt.embedding_projection = true;
  const auto bert = tiny_bert_config();
  bert->embedding_projection = true;
  for (const ModelConfig* config :
       {static_cast<ModelConfig*>(&opt), static_cast<ModelConfig*>(bert.get())}) {
    const std::unique_ptr<Model> model = built(*config);
    std::map<std::string, at::Tensor> weights;
    for (const auto& [name, value] : model->parameters.named_values()) weights[name] = value;
    const bool is_opt = config->type() == "opt";
    const at::Tensor in = weights.at(is_opt ? "model.decoder.project_in.weight"
                                            : "bert.embeddings.projection.weight"),
                     out = weights.at(is_opt ? "model.decoder.project_out.weight"
                                             : "cls.predictions.projection.weight"),
                     words = weights.at(is_opt ? "model.decoder.embed_tokens.weight"
                                               : "bert.embeddings.word_embeddings.weight");
    EXPECT_TRUE(at::allclose(at::matmul(in, in.t()), at::eye(8), 0, 1e-6));
    const Batch batch = tiny_batch(1);
    const auto seen = taps_of(*model, batch);
    EXPECT_TRUE(at::allclose(seen.at("embeddings.project_in"),
                             at::matmul(at::embedding(words, batch.input_ids), in.t()), 1e-5,
                             1e-6));
    const at::Tensor last = seen.at(is_opt ? "final_norm" : "head.transform");
    const at::Tensor logits = at::matmul(at::matmul(last, out.t()), words.t());
    EXPECT_TRUE(at::allclose(seen.at("logits"),
                             is_opt ? logits : logits + weights.at("cls.predictions.bias"), 1e-5,
                             1e-6));
  }
}

TEST(Blocks, RegistersStandBehindTheClassTokenWithoutPositions) {
  VitConfig config;
  config.num_labels = 3;
  config.hidden_size = 8;
  config.num_hidden_layers = 1;
  config.num_attention_heads = 2;
  config.intermediate_size = 16;
  config.image_size = 8;
  config.patch_size = 4;
  const auto plain = taps_of(*built(config), Batch{{}, {}, {}, {}, {}, at::ones({2, 3, 8, 8})});
  config.register_tokens = 2;
  EXPECT_EQ(config.max_positions(), 7);
  const std::unique_ptr<Model> model = built(config);
  at::Tensor registers;
  for (const auto& [name, value] : model->parameters.named_values())
    if (name == "vit.embeddings.register_tokens") registers = value;
  ASSERT_TRUE(registers.defined());
  EXPECT_LT(registers.abs().max().item<double>(), 1e-5);
  registers.fill_(0.5);
  const auto seen = taps_of(*model, Batch{{}, {}, {}, {}, {}, at::ones({2, 3, 8, 8})});
  const at::Tensor sum = seen.at("embeddings.sum"), without = plain.at("embeddings.sum");
  ASSERT_EQ(sum.size(1), 7);
  EXPECT_TRUE(at::equal(sum.narrow(1, 0, 1), without.narrow(1, 0, 1)));
  EXPECT_TRUE(sum.narrow(1, 1, 2).eq(0.5).all().item<bool>());
  EXPECT_TRUE(at::equal(sum.slice(1, 3), without.slice(1, 1)));
  EXPECT_FALSE(at::equal(seen.at("logits"), plain.at("logits"))) << "they are attended to";
}

}  // namespace
}  // namespace quench
