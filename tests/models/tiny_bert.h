// A BERT of a thousand parameters, and batches for it.
#pragma once

#include <ATen/ATen.h>

#include "models/bert.h"
#include "models/pretrained.h"

namespace quench {

inline std::shared_ptr<BertConfig> tiny_bert_config() {
  const auto config = std::make_shared<BertConfig>();
  config->vocab_size = 32;
  config->hidden_size = 8;
  config->num_hidden_layers = 1;
  config->num_attention_heads = 2;
  config->intermediate_size = 16;
  config->max_position_embeddings = 8;
  return config;
}

inline Pretrained tiny_bert(uint64_t seed = 1,
                            const std::shared_ptr<BertConfig>& config = tiny_bert_config(),
                            const AttentionConfig& attention = {}) {
  Pretrained pretrained;
  pretrained.config = config;
  pretrained.attention = attention;
  pretrained.max_seq_length = config->max_position_embeddings;
  pretrained.model = config->build(attention, pretrained.max_seq_length);
  pretrained.model->parameters.initialize(seed);
  pretrained.model->parameters.to(at::kCPU, at::kFloat);
  return pretrained;
}

// [size, 8] tokens, every other one with a label; a function of `number`.
inline Batch tiny_batch(int64_t number, int64_t size = 4) {
  Batch batch;
  batch.input_ids = (at::arange(size * 8, at::kLong).view({size, 8}) * (7 + number)).remainder(32);
  batch.labels = at::where(at::arange(8, at::kLong).remainder(2) == 0, batch.input_ids, -100);
  batch.label_positions = (batch.labels.flatten() != -100).nonzero().squeeze(1);
  return batch;
}

// Copies, on the CPU.
inline std::map<std::string, at::Tensor> weights_of(const Pretrained& pretrained) {
  std::map<std::string, at::Tensor> weights;
  for (const auto& [name, value] : pretrained.model->parameters.named_values())
    weights[name] = value.to(at::kCPU, value.scalar_type(), /*non_blocking=*/false, /*copy=*/true);
  return weights;
}

inline bool equal(const std::map<std::string, at::Tensor>& a,
                  const std::map<std::string, at::Tensor>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const auto& x, const auto& y) {
    return x.first == y.first && at::equal(x.second, y.second);
  });
}

}  // namespace quench
