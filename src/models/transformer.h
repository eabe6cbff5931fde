// The one transformer stack: BERT, OPT and ViT are embeddings, these layers, and a head.
#pragma once

#include <string>
#include <vector>

#include "attention/attention.h"
#include "nn/norm.h"

namespace quench {

// What a forward pass needs besides its batch.
struct ForwardContext {
  Taps taps;
  DropoutStream stream;
};

struct LayerOptions {
  int64_t hidden_size = 768;
  int64_t heads = 12;
  int64_t intermediate_size = 3072;
  int64_t max_seq_length = 512;
  std::string activation = "gelu";  // gelu (exact) | relu
  bool pre_norm = false;  // norms before the blocks (OPT, ViT) or after the residual sums (BERT)
  NormOptions norm;
  bool sandwich_norm = false;  // a norm on each branch as well
  double hidden_dropout = 0;
  double attention_dropout = 0;
  double drop_path = 0;  // stochastic depth of both blocks
  Init weight, bias = Init::constant(0);
};

// gelu (exact) or relu.
at::Tensor activate(const std::string& activation, const at::Tensor& x);

// Parameter names of one layer.
struct LayerNames {
  AttentionNames attention;
  std::string attention_norm, intermediate, output, output_norm;
  std::string attention_branch_norm, output_branch_norm;  // of a sandwich
};

class TransformerLayer {
 public:
  TransformerLayer(Parameters& parameters, const LayerOptions& options,
                   const AttentionConfig& attention, const LayerNames& names, int64_t index);

  // x [B, T, D] -> [B, T, D]. With `rows` (select_rows()) it computes only those, [N, D]: in the
  // last layer those that the loss looks at.
  at::Tensor operator()(const at::Tensor& x, const AttentionMask& mask, ForwardContext& context,
                        const at::Tensor& rows = {}) const;

 private:
  // Where there are such norms; `point` is the tap behind.
  at::Tensor branch_norm(const Norm& norm, const char* point, const at::Tensor& branch,
                         const Taps& taps) const;
  at::Tensor add_residual(const at::Tensor& branch, const at::Tensor& residual,
                          const RowPlace& place, ForwardContext& context) const;
  at::Tensor feed_forward(const at::Tensor& x, const Taps& taps) const;

  LayerOptions options_;
  std::string scope_;  // "layers.N."
  Attention attention_;
  Norm attention_norm_, output_norm_, attention_branch_norm_, output_branch_norm_;
  Linear intermediate_, output_;
};

// The whole stack, x [B, T, D] -> [B, T, D], or only `rows` of its result, [N, D].
at::Tensor run_layers(const std::vector<TransformerLayer>& layers, const at::Tensor& x,
                      const AttentionMask& mask, ForwardContext& context,
                      const at::Tensor& rows = {});

}  // namespace quench
