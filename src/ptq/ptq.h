// Post-training quantization: calibrate, fix, evaluate, in the order of SPEC 8.
#pragma once

#include <optional>
#include <span>
#include <vector>

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
// ranges: one pass over the data, each listener as if it were alone.
void calibrate(const Pretrained& pretrained, const BatchSource& source, const PtqConfig& ptq,
               at::Device device, std::span<FakeQuantizer> quantizers);

// {"settings", "full_precision", "quantized", "quantizers"} (docs/design.md 4.3), in float32 on the
// config's device; with `bits` also the curve over so many bits of activations, "bits" and
// "bits_within". `full_precision`, if it is known already, is not measured again.
Json quantize_and_evaluate(const Pretrained& pretrained, const PtqData& data,
                           const RunConfig& config, const std::vector<int64_t>& bits = {},
                           const std::optional<Json>& full_precision = {});

}  // namespace quench
