// Post-training quantization: calibrate, fix, evaluate, in the order of SPEC 8.
#pragma once

#include <optional>

#include "eval/evaluator.h"
#include "ptq/fake_quantizer.h"
#include "run/config.h"

namespace quench {

// Where a model's batches come from: its run's own config where the ptq section is silent.
struct PtqData {
  BatchSourcePtr calibration, evaluation;
};
PtqData open_ptq_data(const RunConfig& config, std::shared_ptr<const Tokenizer> tokenizer);

// Runs the calibration batches through the model with every quantizer estimating, then fixes the
// ranges.
void calibrate(const Pretrained& pretrained, const BatchSource& source, const PtqConfig& ptq,
               at::Device device, FakeQuantizer& quantizer);

// {"settings", "full_precision", "quantized", "quantizers"} (docs/design.md 4.3), in float32 on the
// config's device. `full_precision`, if it is known already, is not measured again.
Json quantize_and_evaluate(const Pretrained& pretrained, const PtqData& data,
                           const RunConfig& config, const std::optional<Json>& full_precision = {});

}  // namespace quench
