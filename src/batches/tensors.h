// data.type: tensors. Batches that any other pipeline prepared, in a safetensors file: input_ids
// [N, T] with labels [N, T] (and attention_mask, token_type_ids), or pixel_values [N, C, H, W] with
// labels [N] (docs/design.md 4.2).
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

}  // namespace quench
