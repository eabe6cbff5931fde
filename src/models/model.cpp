#include "models/model.h"

#include "base/error.h"
#include "models/bert.h"
#include "models/opt.h"
#include "models/vit.h"

namespace quench {

const config::Registry<ModelConfig>& model_types() {
  static const config::Registry<ModelConfig> registry{{
      {"bert", "BERT for masked language modelling", [] { return std::make_shared<BertConfig>(); }},
      {"opt", "OPT for causal language modelling", [] { return std::make_shared<OptConfig>(); }},
      {"vit", "ViT for image classification", [] { return std::make_shared<VitConfig>(); }},
  }};
  return registry;
}

void fit_vocabulary(std::optional<int64_t>& vocab_size, int64_t vocabulary) {
  if (!vocab_size) vocab_size = vocabulary;
  if (*vocab_size < vocabulary)
    fail_usage("model.vocab_size: expected at least the data's ", vocabulary, ", got ",
               *vocab_size);
}

void fit_special_id(SpecialId& id, int64_t tokenizers, const char* key) {
  if (id && *id != tokenizers)
    fail_usage("model.", key, ": the config says ", *id, ", the data's vocabulary ", tokenizers,
               tokenizers < 0 ? " (it has no such token)" : "", ": leave it out");
  id = tokenizers;
}

Json special_id_json(const SpecialId& id, int64_t otherwise) {
  const int64_t value = id.value_or(otherwise);
  return value < 0 ? Json() : Json(value);
}

int64_t padding_row(const SpecialId& pad_token_id, int64_t otherwise, int64_t vocab_size) {
  const int64_t row = pad_token_id.value_or(otherwise);
  if (row < vocab_size) return row;
  if (!pad_token_id) return -1;  // a vocabulary too small for Hugging Face's default
  fail_usage("model.pad_token_id: expected less than the vocabulary's ", vocab_size, ", got ", row);
}

void require_whole_heads(config::Fields& fields, int64_t hidden_size, int64_t heads) {
  fields.require(hidden_size % heads == 0, "num_attention_heads",
                 concat("expected a divisor of hidden_size (", hidden_size, "), got ", heads));
}

std::pair<Init, Init> projection_init(const std::string& initialization, double standard_deviation,
                                      int64_t hidden_size) {
  if (initialization == "hf") return {Init::normal(standard_deviation), Init::constant(0)};
  return {Init::torch_linear(hidden_size), Init::torch_linear(hidden_size)};
}

std::vector<std::string> layer_outputs(const std::string& first, size_t layers) {
  std::vector<std::string> names{first};
  for (size_t i = 0; i < layers; ++i) names.push_back(concat("layers.", i, ".output"));
  return names;
}

}  // namespace quench
