#include "ptq/ptq.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "base/error.h"
#include "base/progress.h"
#include "base/signals.h"
#include "batches/loader.h"
#include "data/sampler.h"

namespace quench {
namespace {

MakeBatch calibration_batches(const BatchSource& source, const CalibrationConfig& c,
                              uint64_t seed) {
  const Sampler sampler(source.samples(), seed, c.shuffle);
  return [=, &source](int64_t b) -> std::optional<Batch> {
    const int64_t first = b * c.batch_size;
    // In order, the data is read once.
    const int64_t count =
        c.shuffle ? c.batch_size : std::min(c.batch_size, source.samples() - first);
    if (b == c.batches || count <= 0) return std::nullopt;
    std::vector<int64_t> samples, positions;
    for (int64_t i = 0; i < count; ++i) {
      positions.push_back(first + i);
      samples.push_back(sampler.index(positions.back()));
    }
    return source.batch({samples, positions, seed, b, /*training=*/false});
  };
}

// The least of the curve's bits whose figure is within `share` of full precision; null: none.
Json least_bits(const Json& curve, const Json& full, double share) {
  Json least;
  for (const Json& point : curve) {
    const double exact = headline(full), reached = headline(point);
    const bool within =
        full.contains("accuracy") ? reached >= exact * (1 - share) : reached <= exact * (1 + share);
    if (within && (least.is_null() || point.at("bits") < least)) least = point.at("bits");
  }
  return least;
}

Json curve_point(int64_t bits, const Json& evaluation) {
  const char* figure = evaluation.contains("accuracy") ? "accuracy" : "perplexity";
  return {{"bits", bits}, {"loss", evaluation.at("loss")}, {figure, evaluation.at(figure)}};
}

}  // namespace

PtqData open_ptq_data(const RunConfig& config, std::shared_ptr<const Tokenizer> tokenizer) {
  DataContext context = config.data_context();
  context.tokenizer = std::move(tokenizer);
  const auto open = [&](const std::shared_ptr<DataConfig>& own, Subset subset) {
    const std::shared_ptr<DataConfig>& data = own ? own : config.data;
    if (!data)
      fail_usage(
          "ptq: the model has no run of its own, so give ptq.calibration.data and "
          "ptq.evaluation.data");
    try {
      const OpenedData opened = data->open(subset, context);
      config.fit(opened);
      return opened.source;
    } catch (const UsageError& error) {
      if (!own) throw;
      fail_usage(subset == Subset::kTrain ? "ptq.calibration." : "ptq.evaluation.", error.what());
    }
  };
  return {open(config.ptq.calibration.data, Subset::kTrain),
          open(config.ptq.evaluation.data, Subset::kValidation)};
}

void calibrate(const Pretrained& pretrained, const BatchSource& source, const PtqConfig& ptq,
               at::Device device, std::span<FakeQuantizer> quantizers) {
  check_inputs(source, pretrained);
  at::NoGradGuard no_grad;
  const CalibrationConfig& c = ptq.calibration;
  Progress progress("calibrate", c.batches, "samples", static_cast<double>(c.batch_size));
  Loader loader(calibration_batches(source, c, static_cast<uint64_t>(ptq.seed)), device);
  for (int64_t b = 0; const std::optional<Batch> batch = loader.next(); ++b) {
    stop_if_signalled();
    const Batch moved = batch->to(device);
    for (FakeQuantizer& quantizer : quantizers) {
      ForwardContext context{Taps({&quantizer}), DropoutStream()};
      pretrained.model->forward(moved, context);
    }
    progress.update(b + 1);
  }
  progress.finish();
  for (FakeQuantizer& quantizer : quantizers) quantizer.fix();
  quantizers.front().check_overrides();  // it met the weights that the others share
}

Json quantize_and_evaluate(const Pretrained& pretrained, const PtqData& data,
                           const RunConfig& config, const std::vector<int64_t>& bits,
                           const std::optional<Json>& full_precision) {
  const PtqConfig& ptq = config.ptq;
  EvaluationOptions options = evaluation_options(config);
  options.batch_size = ptq.evaluation.batch_size;
  options.max_batches = ptq.evaluation.max_batches;
  options.precision = "fp32";

  options.label = "full precision";
  const Json full =
      full_precision ? *full_precision : evaluate(pretrained, *data.evaluation, options).to_json();
  check_finite(full);
  std::vector<FakeQuantizer> quantizers;  // as configured; with each number of bits
  quantizers.emplace_back(ptq, pretrained.config->traits());
  for (const int64_t n : bits) quantizers.push_back(quantizers[0].with_activation_bits(n));
  calibrate(pretrained, *data.calibration, ptq, options.device, quantizers);
  options.label = "quantized";
  const Json quantized =
      evaluate(pretrained, *data.evaluation, options, {&quantizers[0]}).to_json();
  Json result = {{"checkpoint", pretrained.folder.filename().string()},
                 {"settings", config::write(ptq)},
                 {"full_precision", full},
                 {"quantized", quantized},
                 {"quantizers", quantizers[0].records()}};
  if (bits.empty()) return result;
  options.outliers = options.sinks = false;
  Json curve = Json::array();
  for (size_t i = 0; i < bits.size(); ++i) {
    options.label = concat(bits[i], " bits");
    const Evaluation at = evaluate(pretrained, *data.evaluation, options, {&quantizers[i + 1]});
    curve.push_back(curve_point(bits[i], at.to_json()));
  }
  result["bits"] = curve;
  result["bits_within"] = {{"1%", least_bits(curve, full, 0.01)},
                           {"10%", least_bits(curve, full, 0.1)}};
  return result;
}

}  // namespace quench
