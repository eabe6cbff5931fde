// data.type: tensors. Batches that any other pipeline prepared, in a safetensors file: input_ids
// [N, T] with labels [N, T] (and attention_mask, token_type_ids), or pixel_values [N, C, H, W] with
// labels [N] (docs/design.md 4.2). Ids, types and labels are integers, a mask is bool or integers 0
// and 1, pixels are floating-point numbers, all finite.
#pragma once

#include <string>

#include "batches/data_config.h"

namespace quench {

class TensorsData : public DataConfig {
 public:
  std::string train;
  std::string validation;

  std::string type() const override { return "tensors"; }
  void describe(config::Fields& fields) override;
  void validate() const override;
  OpenedData open(Subset subset, const DataContext& context) const override;
};

// Opens `path` as a tensors file.
OpenedData open_tensors(const std::string& path);

// Every sample of such a file as one batch, labels optional, pixels in the file's own dtype. Throws
// Error naming the file, the tensor, the value and what was expected.
Batch read_tensors(const std::string& path);
// Throws Error in the same way for what the model does not take.
void check_tensors(const Batch& batch, const InputLimits& limits, const std::string& path);

}  // namespace quench
