#include "models/bert.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "nn/linear_cross_entropy.h"

namespace quench {
namespace {

constexpr int64_t kRowBlock = 16;

LayerNames layer_names(int64_t layer, const BertConfig& c) {
  const std::string at = concat("bert.encoder.layer.", layer, ".");
  const Init normal = Init::normal(c.initializer_range), zero = Init::constant(0);
  const auto [weight, bias] = projection_init(c.initialization, c.initializer_range, c.hidden_size);
  return {{at + "attention.self.query", at + "attention.self.key", at + "attention.self.value",
           at + "attention.output.dense", at + "attention.self", weight, bias, normal, zero},
          at + "attention.output.LayerNorm",
          at + "intermediate.dense",
          at + "output.dense",
          at + "output.LayerNorm",
          at + "attention.output.branch_norm",
          at + "output.branch_norm"};
}

class Bert : public Model {
 public:
  Bert(const BertConfig& config, const AttentionConfig& attention, int64_t max_seq_length);

  ModelOutput forward(const Batch& batch, ForwardContext& context, Want want) const override;
  std::vector<std::string> hidden_state_taps() const override {
    return layer_outputs("embeddings.norm", layers_.size());
  }

 private:
  at::Tensor embed(const Batch& batch, ForwardContext& context) const;
  at::Tensor transform(const at::Tensor& x, const Taps& taps) const;

  BertConfig config_;
  Embedding words_, positions_, token_types_;
  Norm embedding_norm_;
  std::vector<TransformerLayer> layers_;
  Linear transform_;
  Norm transform_norm_;
  Linear project_in_, project_out_;  // of embedding_projection
  Parameter* decoder_bias_ = nullptr;
};

Bert::Bert(const BertConfig& c, const AttentionConfig& attention, int64_t max_seq_length)
    : config_(c) {
  const Init normal = Init::normal(c.initializer_range);
  const std::string at = "bert.embeddings.";
  words_ = add_embedding(parameters, at + "word_embeddings", *c.vocab_size, c.hidden_size, normal,
                         padding_row(c.pad_token_id, 0, *c.vocab_size));
  words_.sparse_gradient = true;
  positions_ = add_embedding(parameters, at + "position_embeddings", c.max_position_embeddings,
                             c.hidden_size, normal);
  token_types_ = add_embedding(parameters, at + "token_type_embeddings", c.type_vocab_size,
                               c.hidden_size, normal);
  const NormOptions norm{norm_kind(c.blocks.norm), c.layer_norm_eps};
  embedding_norm_ = add_norm(parameters, at + "LayerNorm", c.hidden_size, norm);
  if (c.embedding_projection)
    project_in_ = add_linear(parameters, at + "projection", c.hidden_size, c.hidden_size,
                             Init::orthogonal(), {}, false);

  LayerOptions options;
  options.hidden_size = c.hidden_size;
  options.heads = c.num_attention_heads;
  options.intermediate_size = c.intermediate_size;
  options.max_seq_length = max_seq_length;
  options.activation = c.hidden_act;
  options.norm = norm;
  options.sandwich_norm = c.blocks.sandwich_norm;
  options.hidden_dropout = c.hidden_dropout_prob;
  options.attention_dropout = c.attention_probs_dropout_prob;
  options.weight = normal;
  for (int64_t i = 0; i < c.num_hidden_layers; ++i)
    layers_.emplace_back(parameters, options, attention, layer_names(i, c), i);

  decoder_bias_ =
      &parameters.add("cls.predictions.bias", {*c.vocab_size}, Init::constant(0), Role::kBias);
  transform_ = add_linear(parameters, "cls.predictions.transform.dense", c.hidden_size,
                          c.hidden_size, normal, Init::constant(0), true, Role::kHead);
  transform_norm_ =
      add_norm(parameters, "cls.predictions.transform.LayerNorm", c.hidden_size, norm);
  if (c.embedding_projection)
    project_out_ = add_linear(parameters, "cls.predictions.projection", c.hidden_size,
                              c.hidden_size, Init::orthogonal(), {}, false);
}

at::Tensor Bert::embed(const Batch& batch, ForwardContext& context) const {
  const Taps& taps = context.taps;
  const at::Tensor types = batch.token_type_ids.defined()
                               ? token_types_(batch.token_type_ids, taps)
                               : tapped(*token_types_.weight, taps).narrow(0, 0, 1);
  at::Tensor words = words_(batch.input_ids, taps);
  if (project_in_.weight) words = taps("", "embeddings.project_in", project_in_(words, taps));
  at::Tensor x = taps("", "embeddings.token_type_sum", words + types);
  x = taps("", "embeddings.sum",
           x + tapped(*positions_.weight, taps).narrow(0, 0, batch.input_ids.size(1)));
  x = taps("", "embeddings.norm", embedding_norm_(x, taps));
  return dropout(x, config_.hidden_dropout_prob, context.stream);
}

at::Tensor Bert::transform(const at::Tensor& x, const Taps& taps) const {
  const at::Tensor y =
      taps("", "head.transform",
           transform_norm_(activate(config_.hidden_act, transform_(x, taps)), taps));
  return project_out_.weight ? taps("", "head.projection", project_out_(y, taps)) : y;
}

ModelOutput Bert::forward(const Batch& batch, ForwardContext& context, Want want) const {
  const Taps& taps = context.taps;
  check(batch.input_ids.size(1) <= config_.max_position_embeddings, "sequences of ",
        batch.input_ids.size(1), " tokens are longer than max_position_embeddings (",
        config_.max_position_embeddings, ")");
  const AttentionMask mask{batch.attention_mask, /*causal=*/false};
  const auto encode = [&](const at::Tensor& rows) {
    return run_layers(layers_, embed(batch, context), mask, context, rows);
  };

  ModelOutput output;
  if (want == Want::kLogits || taps.wanted("", "head.transform") || taps.wanted("", "logits")) {
    const at::Tensor decoder = taps.weight("cls.predictions.decoder.weight", words_.weight->value);
    output.logits =
        taps("", "logits", at::linear(transform(encode({}), taps), decoder, decoder_bias_->value));
    if (batch.labels.defined())
      output.loss = at::cross_entropy_loss(output.logits.flatten(0, 1), batch.labels.flatten());
    return output;
  }
  // The last layer and the logits only where there is a label: 15 % of the positions.
  const at::Tensor labels = batch.labels.flatten();
  at::Tensor where = batch.label_positions.defined() ? batch.label_positions
                                                     : (labels != -100).nonzero().squeeze(1);
  // Filled up to a few sizes that recur: libraries compile their products for each, and keep them.
  const int64_t count = where.size(0);
  where = at::constant_pad_nd(where, {0, (kRowBlock - count % kRowBlock) % kRowBlock});
  at::Tensor targets = labels.index_select(0, where);
  targets.slice(0, count).fill_(-100);
  output.loss =
      linear_cross_entropy(transform(encode(where), taps),
                           taps.weight("cls.predictions.decoder.weight", words_.weight->value),
                           decoder_bias_->value, targets);
  return output;
}

std::vector<PaperFigures::Watched> watched(int64_t layers) {
  std::vector<PaperFigures::Watched> all;
  for (int64_t j = 0; j < layers; ++j) {
    const std::string module = concat("bert.encoder.layer.", j, ".output."),
                      tap = concat("layers.", j, ".ffn.");
    all.push_back({module + "dense", tap + "output"});
    all.push_back({module + "LayerNorm", tap + "norm"});
    all.push_back({module + "LayerNorm.input", tap + "residual", /*kurtosis=*/false});
  }
  return all;
}

}  // namespace

void BertConfig::describe(config::Fields& f) {
  using namespace config;
  f("vocab_size", vocab_size, "rows of the word embeddings; default: the tokenizer's", at_least(1));
  f("hidden_size", hidden_size, "width of the residual stream", at_least(1));
  f("num_hidden_layers", num_hidden_layers, "transformer layers", between(1, 10000));
  f("num_attention_heads", num_attention_heads, "heads; must divide hidden_size", at_least(1));
  f("intermediate_size", intermediate_size, "width of the feed-forward layer", at_least(1));
  f("hidden_act", hidden_act, "activation of the feed-forward layer", one_of({"gelu", "relu"}));
  f("hidden_dropout_prob", hidden_dropout_prob, "dropout of embeddings and residual branches",
    between(0, 0.999));
  f("attention_probs_dropout_prob", attention_probs_dropout_prob,
    "dropout of the attention probabilities", between(0, 0.999));
  f("max_position_embeddings", max_position_embeddings, "longest sequence", at_least(1));
  f("type_vocab_size", type_vocab_size, "token types", at_least(1));
  f("initializer_range", initializer_range, "standard deviation of fresh weights", at_least(0));
  f("layer_norm_eps", layer_norm_eps, "epsilon of every norm", greater_than(0));
  f("pad_token_id", pad_token_id,
    "id whose embedding stays zero; -1: none; default: the tokenizer's, else 0", at_least(-1));
  f("initialization", initialization,
    "hf: every weight N(0, initializer_range^2); reference: query, key and value as "
    "torch.nn.Linear",
    one_of({"hf", "reference"}));
  blocks.describe(f);
  f("embedding_projection", embedding_projection, kEmbeddingProjectionHelp);
  require_whole_heads(f, hidden_size, num_attention_heads);
}

std::unique_ptr<Model> BertConfig::build(const AttentionConfig& attention,
                                         int64_t max_seq_length) const {
  return std::make_unique<Bert>(*this, attention, max_seq_length);
}

ModelTraits BertConfig::traits() const {
  return {
      .task = "mlm",
      .body_prefix = "bert.",
      .spellings =
          {.prefixes = {{"embeddings.", "bert."}, {"encoder.", "bert."}, {"pooler.", "bert."}},
           .renamed = {{"LayerNorm.gamma", "LayerNorm.weight"},
                       {"LayerNorm.beta", "LayerNorm.bias"}},
           .tied = {{"cls.predictions.decoder.weight", "bert.embeddings.word_embeddings.weight"},
                    {"cls.predictions.decoder.bias", "cls.predictions.bias"}},
           .unused = {"bert.pooler.", "cls.seq_relationship."}},
      .figures = {.watched = watched(num_hidden_layers),
                  .max_inf_norms = {{"max_ffn_out_inf_norm", "ffn.output"},
                                    {"max_LN_out_inf_norm", "ffn.norm"},
                                    {"max_LN_inp_inf_norm", "ffn.residual"}},
                  .max_kurtoses = {},
                  .headline = "ffn.output"}};
}

Json BertConfig::hugging_face() const {
  Json json = {{"architectures", {"BertForMaskedLM"}},
               {"model_type", "bert"},
               {"vocab_size", *vocab_size},
               {"hidden_size", hidden_size},
               {"num_hidden_layers", num_hidden_layers},
               {"num_attention_heads", num_attention_heads},
               {"intermediate_size", intermediate_size},
               {"hidden_act", hidden_act},
               {"hidden_dropout_prob", hidden_dropout_prob},
               {"attention_probs_dropout_prob", attention_probs_dropout_prob},
               {"max_position_embeddings", max_position_embeddings},
               {"type_vocab_size", type_vocab_size},
               {"initializer_range", initializer_range},
               {"layer_norm_eps", layer_norm_eps},
               {"pad_token_id", special_id_json(pad_token_id, 0)},
               {"tie_word_embeddings", true}};
  blocks.add_to(json);
  if (embedding_projection) json["embedding_projection"] = true;
  return json;
}

}  // namespace quench
