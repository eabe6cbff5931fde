// One batch of a training or evaluation stream. Undefined tensors are absent.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>

namespace quench {

struct Batch {
  at::Tensor input_ids;       // int64 [B, T]
  at::Tensor attention_mask;  // bool [B, T]; undefined = all true
  at::Tensor token_type_ids;  // int64 [B, T]; undefined = all 0
  // int64 [B, T], -100 = ignored, may be the very tensor input_ids; vision: int64 [B], or float
  // [B, classes] when mixed
  at::Tensor labels;
  // int64 [n]: where labels.flatten() != -100, found by the loader so that no device waits
  at::Tensor label_positions;
  at::Tensor pixel_values;  // float [B, C, H, W]

  int64_t size() const { return input_ids.defined() ? input_ids.size(0) : pixel_values.size(0); }

  // Labels that the loss is the mean of; with `causal` the first of a sequence is none, since
  // nothing predicts it. Reads the tensors: for a batch on the CPU.
  int64_t label_count(bool causal) const;

  // With f of every tensor in its place, called once for a tensor that two fields share.
  Batch mapped(const std::function<at::Tensor(const at::Tensor&)>& f) const;
  // On `device`. The copy of a batch that is pinned() does not keep the caller waiting.
  Batch to(at::Device device) const;
  // In page-locked memory, which a CUDA device reads by itself; needs such a device.
  Batch pinned() const;
};

// Throws Error naming the sample of the batch, which `of` names, whose pixel_values are not finite.
void check_finite_pixels(const Batch& batch, const std::string& of);

}  // namespace quench
