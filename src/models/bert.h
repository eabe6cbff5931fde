// BERT for masked language modelling (SPEC 3.1): post-LN, GELU, a transformed head tied to the word
// embeddings.
#pragma once

#include "models/blocks.h"
#include "models/model.h"

namespace quench {

class BertConfig : public ModelConfig {
 public:
  std::optional<int64_t> vocab_size;  // default: the tokenizer's
  int64_t hidden_size = 768;
  int64_t num_hidden_layers = 12;
  int64_t num_attention_heads = 12;
  int64_t intermediate_size = 3072;
  std::string hidden_act = "gelu";
  double hidden_dropout_prob = 0.1;
  double attention_probs_dropout_prob = 0.1;
  int64_t max_position_embeddings = 512;
  int64_t type_vocab_size = 2;
  double initializer_range = 0.02;
  double layer_norm_eps = 1e-12;
  SpecialId pad_token_id;  // default: the tokenizer's, else 0
  std::string initialization = "hf";
  BlockCures blocks;
  bool embedding_projection = false;

  std::string type() const override { return "bert"; }
  void describe(config::Fields& fields) override;
  std::unique_ptr<Model> build(const AttentionConfig& attention,
                               int64_t max_seq_length) const override;
  ModelTraits traits() const override;
  Json hugging_face() const override;
  void fit(int64_t vocabulary) override { fit_vocabulary(vocab_size, vocabulary); }
  void fit_special_tokens(const SpecialTokens& tokenizer) override {
    fit_special_id(pad_token_id, tokenizer.pad, "pad_token_id");
  }
  int64_t layers() const override { return num_hidden_layers; }
  int64_t vocabulary_or_classes() const override { return vocab_size.value_or(0); }
  int64_t max_positions() const override { return max_position_embeddings; }
  int64_t token_types() const override { return type_vocab_size; }
};

}  // namespace quench
