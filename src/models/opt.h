// OPT for causal language modelling (SPEC 3.2): pre-LN or post-LN, ReLU, learned positions counted
// over the mask, a head tied to the token embedding, projections where the embedding is narrower
// than the model.
#pragma once

#include "models/blocks.h"
#include "models/model.h"

namespace quench {

class OptConfig : public ModelConfig {
 public:
  std::optional<int64_t> vocab_size;  // default: the tokenizer's
  int64_t hidden_size = 768;
  std::optional<int64_t> word_embed_proj_dim;  // default: hidden_size
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t ffn_dim = 3072;
  std::string activation_function = "relu";
  bool do_layer_norm_before = true;
  double dropout = 0.1;
  double attention_dropout = 0;
  int64_t max_position_embeddings = 2048;
  double init_std = 0.02;
  double layer_norm_eps = 1e-5;
  SpecialId pad_token_id, bos_token_id, eos_token_id;  // default: the tokenizer's, else 1, 2 and 2
  std::string initialization = "hf";
  BlockCures blocks;
  bool embedding_projection = false;

  std::string type() const override { return "opt"; }
  void describe(config::Fields& fields) override;
  std::unique_ptr<Model> build(const AttentionConfig& attention,
                               int64_t max_seq_length) const override;
  ModelTraits traits() const override;
  Json hugging_face() const override;
  void fit(int64_t vocabulary) override { fit_vocabulary(vocab_size, vocabulary); }
  void fit_special_tokens(const SpecialTokens& tokenizer) override;
  int64_t layers() const override { return num_hidden_layers; }
  int64_t vocabulary_or_classes() const override { return vocab_size.value_or(0); }
  int64_t max_positions() const override { return max_position_embeddings; }
  int64_t embedding_size() const { return word_embed_proj_dim.value_or(hidden_size); }
};

}  // namespace quench
