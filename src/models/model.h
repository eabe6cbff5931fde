// What a model is to the rest of quench: named parameters and one forward pass. A new model is one
// file like bert.cpp and one line in `model_types()`.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "batches/source.h"
#include "data/tokenizer.h"
#include "models/traits.h"
#include "models/transformer.h"

namespace quench {

struct ModelOutput {
  at::Tensor loss;    // 0-dim, mean over the labels that count; undefined without labels
  at::Tensor logits;  // [B, T, V] or [B, classes]; where only the loss was wanted, undefined for
                      // language models
};

enum class Want { kLoss, kLogits };  // kLogits: loss and every logit

class Model {
 public:
  virtual ~Model() = default;

  // Needs input_ids or, for images, pixel_values; language models also labels where only the loss
  // is wanted. Throws Error on images of another size or sequences longer than the model's
  // positions.
  virtual ModelOutput forward(const Batch& batch, ForwardContext& context,
                              Want want = Want::kLoss) const = 0;

  // The taps whose tensors Hugging Face returns as hidden_states.0 ... hidden_states.L.
  virtual std::vector<std::string> hidden_state_taps() const = 0;

  Parameters parameters;
};

// The `model` section of a config: Hugging Face's own keys.
class ModelConfig {
 public:
  virtual ~ModelConfig() = default;
  virtual std::string type() const = 0;
  virtual void describe(config::Fields& fields) = 0;
  // Parameters are allocated, not drawn: call parameters.initialize() or load values.
  virtual std::unique_ptr<Model> build(const AttentionConfig& attention,
                                       int64_t max_seq_length) const = 0;
  virtual ModelTraits traits() const = 0;
  // Hugging Face's config.json, without the "quench" key.
  virtual Json hugging_face() const = 0;
  // Fills what only the data knows (vocabulary, number of classes) where the config left it open; a
  // value that contradicts the data is an error.
  virtual void fit(int64_t vocabulary_or_classes) = 0;
  // The same for the ids of special tokens.
  virtual void fit_special_tokens(const SpecialTokens& /*tokenizer*/) {}
  virtual int64_t layers() const = 0;
  virtual int64_t vocabulary_or_classes() const = 0;  // 0: not known
  // The longest sequence that the positions allow.
  virtual int64_t max_positions() const = 0;
  virtual int64_t image_side() const { return 0; }  // pixels; 0: takes no images
  virtual int64_t channels() const { return 0; }    // of images
  virtual int64_t token_types() const { return 1; }

  InputLimits limits() const {
    return {type(),      vocabulary_or_classes(), token_types(), max_positions(), channels(),
            image_side()};
  }
};

const config::Registry<ModelConfig>& model_types();

// What the models' own files share:

// fit() of a language model.
void fit_vocabulary(std::optional<int64_t>& vocab_size, int64_t vocabulary);
// The id of a special token in a config: -1: there is none; std::nullopt: left to the tokenizer.
using SpecialId = std::optional<int64_t>;
// Takes over the tokenizer's id. Throws UsageError if `id` says another; `key` names it.
void fit_special_id(SpecialId& id, int64_t tokenizers, const char* key);
// As Hugging Face's config.json has it; `otherwise` where neither config nor tokenizer said.
Json special_id_json(const SpecialId& id, int64_t otherwise);
// The row of the embedding that stays zero; -1: none. Throws UsageError beyond the vocabulary.
int64_t padding_row(const SpecialId& pad_token_id, int64_t otherwise, int64_t vocab_size);
// The heads' share of describe(), at its end.
void require_whole_heads(config::Fields& fields, int64_t hidden_size, int64_t heads);
// Weights and biases of the attention's projections: "hf", or "reference" as torch.nn.Linear.
std::pair<Init, Init> projection_init(const std::string& initialization, double standard_deviation,
                                      int64_t hidden_size);
// `first`, then the output of each layer.
std::vector<std::string> layer_outputs(const std::string& first, size_t layers);

}  // namespace quench
