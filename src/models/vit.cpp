#include "models/vit.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "base/error.h"

namespace quench {
namespace {

LayerNames layer_names(int64_t layer, const VitConfig& c) {
  const std::string at = concat("vit.encoder.layer.", layer, ".");
  const Init normal = Init::normal(c.initializer_range), zero = Init::constant(0);
  const auto [weight, bias] = projection_init(c.initialization, c.initializer_range, c.hidden_size);
  return {{at + "attention.attention.query", at + "attention.attention.key",
           at + "attention.attention.value", at + "attention.output.dense",
           at + "attention.attention", weight, bias, normal, zero},
          at + "layernorm_before",
          at + "intermediate.dense",
          at + "output.dense",
          at + "layernorm_after",
          at + "attention_branch_norm",
          at + "output_branch_norm"};
}

class Vit : public Model {
 public:
  Vit(const VitConfig& config, const AttentionConfig& attention, int64_t max_seq_length);

  ModelOutput forward(const Batch& batch, ForwardContext& context, Want want) const override;
  std::vector<std::string> hidden_state_taps() const override {
    return layer_outputs("embeddings.sum", layers_.size());
  }

 private:
  at::Tensor embed(const at::Tensor& pixels, ForwardContext& context) const;

  VitConfig config_;
  Parameter *class_token_, *position_, *registers_ = nullptr;
  Linear patch_;  // as a convolution: weight [D, C, P, P]
  Norm patch_norm_, final_norm_;
  std::vector<TransformerLayer> layers_;
  Linear classifier_;
};

Vit::Vit(const VitConfig& c, const AttentionConfig& attention, int64_t max_seq_length)
    : config_(c) {
  const Init normal = Init::normal(c.initializer_range);
  const std::string at = "vit.embeddings.";
  class_token_ = &parameters.add(at + "cls_token", {1, 1, c.hidden_size}, normal, Role::kToken);
  position_ = &parameters.add(at + "position_embeddings", {1, c.tokens(), c.hidden_size}, normal,
                              Role::kToken);
  patch_.weight = &parameters.add(at + "patch_embeddings.projection.weight",
                                  {c.hidden_size, c.num_channels, c.patch_size, c.patch_size},
                                  normal, Role::kEmbedding);
  patch_.bias = &parameters.add(at + "patch_embeddings.projection.bias", {c.hidden_size},
                                Init::constant(0), Role::kBias);
  const NormOptions norm{norm_kind(c.blocks.norm), c.layer_norm_eps};
  if (c.patch_norm) patch_norm_ = add_norm(parameters, at + "patch_norm", c.hidden_size, norm);
  if (c.register_tokens > 0)
    registers_ = &parameters.add(at + "register_tokens", {1, c.register_tokens, c.hidden_size},
                                 Init::normal(1e-6), Role::kToken);

  LayerOptions options;
  options.hidden_size = c.hidden_size;
  options.heads = c.num_attention_heads;
  options.intermediate_size = c.intermediate_size;
  options.max_seq_length = max_seq_length;
  options.activation = c.hidden_act;
  options.pre_norm = true;
  options.norm = norm;
  options.sandwich_norm = c.blocks.sandwich_norm;
  options.hidden_dropout = c.hidden_dropout_prob;
  options.attention_dropout = c.attention_probs_dropout_prob;
  options.weight = normal;
  for (int64_t i = 0; i < c.num_hidden_layers; ++i) {
    options.drop_path = c.drop_path_rate * static_cast<double>(i) /
                        static_cast<double>(std::max<int64_t>(1, c.num_hidden_layers - 1));
    layers_.emplace_back(parameters, options, attention, layer_names(i, c), i);
  }
  final_norm_ = add_norm(parameters, "vit.layernorm", c.hidden_size, norm);
  classifier_ = add_linear(parameters, "classifier", c.hidden_size, *c.num_labels, normal,
                           Init::constant(0), true, Role::kHead);
}

at::Tensor Vit::embed(const at::Tensor& pixels, ForwardContext& context) const {
  const Taps& taps = context.taps;
  at::Tensor x =
      at::conv2d(pixels, tapped(*patch_.weight, taps), patch_.bias->value, config_.patch_size);
  x = taps("", "embeddings.patch", x.flatten(2).transpose(1, 2));
  if (patch_norm_.weight) x = taps("", "embeddings.norm", patch_norm_(x, taps));
  const auto each = [&](const at::Tensor& tokens) {
    return tokens.expand({x.size(0), -1, -1}).to(x.scalar_type());
  };
  x = at::cat({each(class_token_->value), x}, 1) + tapped(*position_, taps);
  if (registers_)  // behind [CLS], without positions
    x = at::cat({x.narrow(1, 0, 1), each(tapped(*registers_, taps)), x.slice(1, 1)}, 1);
  x = taps("", "embeddings.sum", x);
  return dropout(x, config_.hidden_dropout_prob, context.stream);
}

ModelOutput Vit::forward(const Batch& batch, ForwardContext& context, Want) const {
  const Taps& taps = context.taps;
  const at::Tensor& pixels = batch.pixel_values;
  check(pixels.size(1) == config_.num_channels && pixels.size(2) == config_.image_size &&
            pixels.size(3) == config_.image_size,
        "expected images of ", config_.num_channels, " x ", config_.image_size, " x ",
        config_.image_size, ", got ", pixels.size(1), " x ", pixels.size(2), " x ", pixels.size(3));
  const at::Tensor embedded = embed(pixels, context);
  const at::Tensor class_rows = at::arange(pixels.size(0), pixels.options().dtype(at::kLong)) *
                                embedded.size(1);  // [CLS] is all that counts
  const bool whole = taps.listening();
  at::Tensor x = run_layers(layers_, embedded, {}, context, whole ? at::Tensor() : class_rows);
  x = taps("", "final_norm", final_norm_(x, taps));

  ModelOutput output;
  output.logits = taps("", "logits", classifier_(whole ? x.select(1, 0) : x, taps));
  if (batch.labels.defined()) output.loss = at::cross_entropy_loss(output.logits, batch.labels);
  return output;
}

}  // namespace

void VitConfig::describe(config::Fields& f) {
  using namespace config;
  f("num_labels", num_labels, "classes; default: the data's", at_least(1));
  f("hidden_size", hidden_size, "width of the residual stream", at_least(1));
  f("num_hidden_layers", num_hidden_layers, "transformer layers", between(1, 10000));
  f("num_attention_heads", num_attention_heads, "heads; must divide hidden_size", at_least(1));
  f("intermediate_size", intermediate_size, "width of the feed-forward layer", at_least(1));
  f("hidden_act", hidden_act, "activation of the feed-forward layer", one_of({"gelu", "relu"}));
  f("hidden_dropout_prob", hidden_dropout_prob, "dropout of embeddings and residual branches",
    between(0, 0.999));
  f("attention_probs_dropout_prob", attention_probs_dropout_prob,
    "dropout of the attention probabilities", between(0, 0.999));
  f("drop_path_rate", drop_path_rate,
    "stochastic depth of the last layer, growing linearly from 0 at the first", between(0, 0.999));
  f("image_size", image_size, "pixels a side", at_least(1));
  f("patch_size", patch_size, "pixels a side of a patch; must divide image_size", at_least(1));
  f("num_channels", num_channels, "channels of an image", at_least(1));
  f("patch_norm", patch_norm, "a norm after the patch embedding");
  f("initializer_range", initializer_range, "standard deviation of fresh weights", at_least(0));
  f("layer_norm_eps", layer_norm_eps, "epsilon of every norm", greater_than(0));
  f("initialization", initialization,
    "hf: every weight N(0, initializer_range^2); reference: query, key and value as "
    "torch.nn.Linear",
    one_of({"hf", "reference"}));
  blocks.describe(f);
  f("register_tokens", register_tokens, "learned tokens beside [CLS] that no loss looks at",
    at_least(0));
  require_whole_heads(f, hidden_size, num_attention_heads);
  f.require(image_size % patch_size == 0, "patch_size",
            concat("expected a divisor of image_size (", image_size, "), got ", patch_size));
}

std::unique_ptr<Model> VitConfig::build(const AttentionConfig& attention,
                                        int64_t max_seq_length) const {
  return std::make_unique<Vit>(*this, attention, max_seq_length);
}

ModelTraits VitConfig::traits() const {
  ModelTraits traits{
      .task = "classification",
      .body_prefix = "vit.",
      .spellings = {.prefixes = {{"embeddings.", "vit."},
                                 {"encoder.", "vit."},
                                 {"layers.", "vit."},
                                 {"layernorm.", "vit."},
                                 {"pooler.", "vit."}},
                    // names in memory of transformers 5
                    .renamed = {{"vit.layers.", "vit.encoder.layer."},
                                {".attention.q_proj.", ".attention.attention.query."},
                                {".attention.k_proj.", ".attention.attention.key."},
                                {".attention.v_proj.", ".attention.attention.value."},
                                {".attention.o_proj.", ".attention.output.dense."},
                                {".mlp.fc1.", ".intermediate.dense."},
                                {".mlp.fc2.", ".output.dense."}},
                    .unused = {"vit.pooler.", "vit.embeddings.mask_token"}}};
  for (int64_t j = 0; j < num_hidden_layers; ++j)
    traits.figures.watched.push_back(
        {concat("vit.encoder.layer.", j), concat("layers.", j, ".output")});
  return traits;
}

Json VitConfig::hugging_face() const {
  Json labels = Json::object(), ids = Json::object();
  for (int64_t i = 0; i < *num_labels; ++i) {
    labels[std::to_string(i)] = concat("LABEL_", i);
    ids[concat("LABEL_", i)] = i;
  }
  Json json = {{"architectures", {"ViTForImageClassification"}},
               {"model_type", "vit"},
               {"id2label", labels},
               {"label2id", ids},
               {"hidden_size", hidden_size},
               {"num_hidden_layers", num_hidden_layers},
               {"num_attention_heads", num_attention_heads},
               {"intermediate_size", intermediate_size},
               {"hidden_act", hidden_act},
               {"hidden_dropout_prob", hidden_dropout_prob},
               {"attention_probs_dropout_prob", attention_probs_dropout_prob},
               {"image_size", image_size},
               {"patch_size", patch_size},
               {"num_channels", num_channels},
               {"patch_norm", patch_norm},
               {"drop_path_rate", drop_path_rate},
               {"qkv_bias", true},
               {"initializer_range", initializer_range},
               {"layer_norm_eps", layer_norm_eps}};
  blocks.add_to(json);
  if (register_tokens > 0) json["register_tokens"] = register_tokens;
  return json;
}

void VitConfig::fit(int64_t classes) {
  if (!num_labels) num_labels = classes;
  if (*num_labels != classes)
    fail_usage("model.num_labels: expected the data's ", classes, ", got ", *num_labels);
}

}  // namespace quench
