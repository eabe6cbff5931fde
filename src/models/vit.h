// ViT for image classification: patch embedding, [CLS], learned positions, pre-LN, GELU, a linear
// head on [CLS]; optionally a LayerNorm after the patch embedding (the paper's Table 7) and
// stochastic depth.
#pragma once

#include "models/blocks.h"
#include "models/model.h"

namespace quench {

class VitConfig : public ModelConfig {
 public:
  std::optional<int64_t> num_labels;  // default: the data's classes
  int64_t hidden_size = 384;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 6;
  int64_t intermediate_size = 1536;
  std::string hidden_act = "gelu";
  double hidden_dropout_prob = 0;
  double attention_probs_dropout_prob = 0;
  double drop_path_rate = 0;  // of the last layer; grows linearly from 0 at the first
  int64_t image_size = 224;
  int64_t patch_size = 16;
  int64_t num_channels = 3;
  bool patch_norm = false;
  double initializer_range = 0.02;
  double layer_norm_eps = 1e-12;
  std::string initialization = "hf";
  BlockCures blocks;
  int64_t register_tokens = 0;  // Darcet et al. 2024

  std::string type() const override { return "vit"; }
  void describe(config::Fields& fields) override;
  std::unique_ptr<Model> build(const AttentionConfig& attention,
                               int64_t max_seq_length) const override;
  ModelTraits traits() const override;
  Json hugging_face() const override;
  void fit(int64_t classes) override;
  int64_t layers() const override { return num_hidden_layers; }
  int64_t vocabulary_or_classes() const override { return num_labels.value_or(0); }
  int64_t max_positions() const override { return tokens() + register_tokens; }
  int64_t image_side() const override { return image_size; }
  int64_t channels() const override { return num_channels; }
  // Patches and [CLS].
  int64_t tokens() const { return (image_size / patch_size) * (image_size / patch_size) + 1; }
};

}  // namespace quench
