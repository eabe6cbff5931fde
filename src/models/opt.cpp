#include "models/opt.h"

#include <ATen/ATen.h>

#include "base/error.h"
#include "nn/linear_cross_entropy.h"

namespace quench {
namespace {

constexpr int64_t kPositionOffset = 2;  // of the position table, as in Hugging Face's OPT

LayerNames layer_names(int64_t layer, const OptConfig& c) {
  const std::string at = concat("model.decoder.layers.", layer, ".");
  const auto [weight, bias] = projection_init(c.initialization, c.init_std, c.hidden_size);
  return {{at + "self_attn.q_proj", at + "self_attn.k_proj", at + "self_attn.v_proj",
           at + "self_attn.out_proj", at + "self_attn", weight, bias, weight, bias},
          at + "self_attn_layer_norm",
          at + "fc1",
          at + "fc2",
          at + "final_layer_norm",
          at + "self_attn_branch_norm",
          at + "final_branch_norm"};
}

class Opt : public Model {
 public:
  Opt(const OptConfig& config, const AttentionConfig& attention, int64_t max_seq_length);

  ModelOutput forward(const Batch& batch, ForwardContext& context, Want want) const override;
  std::vector<std::string> hidden_state_taps() const override;

 private:
  at::Tensor embed(const Batch& batch, const Taps& taps) const;
  bool projected() const {
    return config_.embedding_size() != config_.hidden_size || config_.embedding_projection;
  }

  OptConfig config_;
  Embedding tokens_, positions_;
  Linear project_in_, project_out_;
  Norm final_norm_;
  std::vector<TransformerLayer> layers_;
};

Opt::Opt(const OptConfig& c, const AttentionConfig& attention, int64_t max_seq_length)
    : config_(c) {
  const Init normal = Init::normal(c.init_std);
  const std::string at = "model.decoder.";
  tokens_ = add_embedding(parameters, at + "embed_tokens", *c.vocab_size, c.embedding_size(),
                          normal, padding_row(c.pad_token_id, 1, *c.vocab_size));
  tokens_.sparse_gradient = true;
  positions_ = add_embedding(parameters, at + "embed_positions",
                             c.max_position_embeddings + kPositionOffset, c.hidden_size, normal);
  if (projected()) {
    const Init init = c.embedding_projection ? Init::orthogonal() : normal;
    project_out_ =
        add_linear(parameters, at + "project_out", c.hidden_size, c.embedding_size(), init, {},
                   false, c.embedding_projection ? Role::kMatrix : Role::kHead);
    project_in_ = add_linear(parameters, at + "project_in", c.embedding_size(), c.hidden_size, init,
                             {}, false, c.embedding_projection ? Role::kMatrix : Role::kEmbedding);
  }
  const NormOptions norm{norm_kind(c.blocks.norm), c.layer_norm_eps};
  if (c.do_layer_norm_before)
    final_norm_ = add_norm(parameters, at + "final_layer_norm", c.hidden_size, norm);

  LayerOptions options;
  options.hidden_size = c.hidden_size;
  options.heads = c.num_attention_heads;
  options.intermediate_size = c.ffn_dim;
  options.max_seq_length = max_seq_length;
  options.activation = c.activation_function;
  options.pre_norm = c.do_layer_norm_before;
  options.norm = norm;
  options.sandwich_norm = c.blocks.sandwich_norm;
  options.hidden_dropout = c.dropout;
  options.attention_dropout = c.attention_dropout;
  options.weight = normal;
  for (int64_t i = 0; i < c.num_hidden_layers; ++i)
    layers_.emplace_back(parameters, options, attention, layer_names(i, c), i);
}

at::Tensor Opt::embed(const Batch& batch, const Taps& taps) const {
  at::Tensor x = tokens_(batch.input_ids, taps);
  if (projected()) x = taps("", "embeddings.project_in", project_in_(x, taps));
  at::Tensor positions;
  if (batch.attention_mask.defined()) {
    const at::Tensor mask = batch.attention_mask.to(at::kLong);
    positions = positions_(mask.cumsum(1) * mask - 1 + kPositionOffset, taps);
  } else {
    positions =
        tapped(*positions_.weight, taps).narrow(0, kPositionOffset, batch.input_ids.size(1));
  }
  return taps("", "embeddings.sum", x + positions);
}

ModelOutput Opt::forward(const Batch& batch, ForwardContext& context, Want want) const {
  const Taps& taps = context.taps;
  check(batch.input_ids.size(1) <= config_.max_position_embeddings, "sequences of ",
        batch.input_ids.size(1), " tokens are longer than max_position_embeddings (",
        config_.max_position_embeddings, ")");
  at::Tensor x = embed(batch, taps);
  const AttentionMask mask{batch.attention_mask, /*causal=*/true};
  x = run_layers(layers_, x, mask, context);
  if (final_norm_.weight) x = taps("", "final_norm", final_norm_(x, taps));
  if (projected()) x = taps("", "project_out", project_out_(x, taps));

  ModelOutput output;
  const at::Tensor head = taps.weight("lm_head.weight", tokens_.weight->value);
  const at::Tensor next =
      batch.labels.defined() ? batch.labels.slice(1, 1).flatten() : at::Tensor();
  if (want == Want::kLogits || taps.wanted("", "logits")) {
    output.logits = taps("", "logits", at::linear(x, head));
    if (next.defined())
      output.loss = at::cross_entropy_loss(output.logits.slice(1, 0, -1).flatten(0, 1), next);
  } else {
    output.loss = linear_cross_entropy(x.slice(1, 0, -1).flatten(0, 1), head, at::Tensor(), next);
  }
  return output;
}

std::vector<std::string> Opt::hidden_state_taps() const {
  std::vector<std::string> names = layer_outputs("embeddings.sum", layers_.size());
  if (final_norm_.weight) names.back() = "final_norm";
  if (projected()) names.back() = "project_out";
  return names;
}

std::vector<PaperFigures::Watched> watched(int64_t layers, bool has_final_norm) {
  std::vector<PaperFigures::Watched> all;
  if (has_final_norm) all.push_back({"model.decoder.final_layer_norm", "final_norm"});
  for (const auto& [module, point] : {std::pair{"", "output"},
                                      {".fc2", "ffn.output"},
                                      {".final_layer_norm", "ffn.norm"},
                                      {".self_attn.out_proj", "attention.output"},
                                      {".self_attn_layer_norm", "attention.norm"}})
    for (int64_t j = 0; j < layers; ++j)
      all.push_back({concat("model.decoder.layers.", j, module), concat("layers.", j, ".", point)});
  return all;
}

}  // namespace

void OptConfig::describe(config::Fields& f) {
  using namespace config;
  f("vocab_size", vocab_size, "rows of the token embedding; default: the tokenizer's", at_least(1));
  f("hidden_size", hidden_size, "width of the residual stream", at_least(1));
  f("word_embed_proj_dim", word_embed_proj_dim,
    "width of the token embedding; default: hidden_size", at_least(1));
  f("num_hidden_layers", num_hidden_layers, "transformer layers", between(1, 10000));
  f("num_attention_heads", num_attention_heads, "heads; must divide hidden_size", at_least(1));
  f("ffn_dim", ffn_dim, "width of the feed-forward layer", at_least(1));
  f("activation_function", activation_function, "activation of the feed-forward layer",
    one_of({"relu", "gelu"}));
  f("do_layer_norm_before", do_layer_norm_before, "pre-LN (true) or post-LN (false)");
  f("dropout", dropout, "dropout of residual branches", between(0, 0.999));
  f("attention_dropout", attention_dropout, "dropout of the attention probabilities",
    between(0, 0.999));
  f("max_position_embeddings", max_position_embeddings, "longest sequence", at_least(1));
  f("init_std", init_std, "standard deviation of fresh weights", at_least(0));
  f("layer_norm_eps", layer_norm_eps, "epsilon of every norm", greater_than(0));
  f("pad_token_id", pad_token_id,
    "id whose embedding stays zero; -1: none; default: the tokenizer's, else 1", at_least(-1));
  f("bos_token_id", bos_token_id,
    "id that starts a text; -1: none; default: the tokenizer's, else 2", at_least(-1));
  f("eos_token_id", eos_token_id, "id that ends a text; -1: none; default: the tokenizer's, else 2",
    at_least(-1));
  f("initialization", initialization,
    "hf: every weight N(0, init_std^2); reference: the attention's projections as torch.nn.Linear",
    one_of({"hf", "reference"}));
  blocks.describe(f);
  f("embedding_projection", embedding_projection, kEmbeddingProjectionHelp);
  require_whole_heads(f, hidden_size, num_attention_heads);
}

std::unique_ptr<Model> OptConfig::build(const AttentionConfig& attention,
                                        int64_t max_seq_length) const {
  return std::make_unique<Opt>(*this, attention, max_seq_length);
}

ModelTraits OptConfig::traits() const {
  ModelTraits traits{
      .task = "clm",
      .body_prefix = "model.",
      .spellings = {.prefixes = {{"decoder.", "model."},
                                 {"embed_tokens.", "model.decoder."},
                                 {"embed_positions.", "model.decoder."},
                                 {"project_in.", "model.decoder."},
                                 {"project_out.", "model.decoder."},
                                 {"layers.", "model.decoder."},
                                 {"final_layer_norm.", "model.decoder."}},
                    .tied = {{"lm_head.weight", "model.decoder.embed_tokens.weight"}}},
      .figures = {.watched = watched(num_hidden_layers, do_layer_norm_before)},
      .unquantized = "attention.gated"};
  // Hugging Face flattens to [B T, D] around the feed-forward block.
  traits.figures.token_rows = {"ffn.output"};
  if (do_layer_norm_before) traits.figures.token_rows.push_back("ffn.norm");
  return traits;
}

void OptConfig::fit_special_tokens(const SpecialTokens& tokenizer) {
  fit_special_id(pad_token_id, tokenizer.pad, "pad_token_id");
  const auto [begin, end] = tokenizer.bos < 0 ? std::pair{tokenizer.eos, tokenizer.eos}
                                              : std::pair{tokenizer.bos, tokenizer.eos};
  fit_special_id(bos_token_id, begin, "bos_token_id");
  fit_special_id(eos_token_id, end, "eos_token_id");
}

Json OptConfig::hugging_face() const {
  Json json = {{"architectures", {"OPTForCausalLM"}},
               {"model_type", "opt"},
               {"vocab_size", *vocab_size},
               {"hidden_size", hidden_size},
               {"word_embed_proj_dim", embedding_size()},
               {"num_hidden_layers", num_hidden_layers},
               {"num_attention_heads", num_attention_heads},
               {"ffn_dim", ffn_dim},
               {"activation_function", activation_function},
               {"do_layer_norm_before", do_layer_norm_before},
               {"_remove_final_layer_norm", false},
               {"dropout", dropout},
               {"attention_dropout", attention_dropout},
               {"layerdrop", 0.0},
               {"max_position_embeddings", max_position_embeddings},
               {"init_std", init_std},
               {"layer_norm_eps", layer_norm_eps},
               {"layer_norm_elementwise_affine", true},
               {"enable_bias", true},
               {"pad_token_id", special_id_json(pad_token_id, 1)},
               {"bos_token_id", special_id_json(bos_token_id, 2)},
               {"eos_token_id", special_id_json(eos_token_id, 2)},
               {"tie_word_embeddings", true}};
  blocks.add_to(json);
  if (embedding_projection) json["embedding_projection"] = true;
  return json;
}

}  // namespace quench
