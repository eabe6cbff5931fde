#include "eval/evaluator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/progress.h"
#include "base/signals.h"
#include "batches/loader.h"
#include "device/device.h"
#include "eval/outliers.h"
#include "eval/precision.h"
#include "eval/sinks.h"

namespace quench {
namespace {

// Samples whose label is among the k largest logits: int64, 0-dim.
at::Tensor count_top(const at::Tensor& logits, const at::Tensor& labels, int64_t k) {
  const at::Tensor top = std::get<1>(logits.topk(std::min(k, logits.size(1)), 1));
  return (top == labels.unsqueeze(1)).any(1).sum();
}

// What is added up over the batches. It stays where the model computes, so that no batch waits for
// a number.
struct Sums {
  explicit Sums(at::Device device)
      : loss(at::zeros({}, at::device(device).dtype(at::kDouble))),
        reference_loss(loss.clone()),
        correct(at::zeros({}, at::device(device).dtype(at::kLong))),
        correct5(correct.clone()) {}

  at::Tensor loss, reference_loss;  // weighted by labels, by sequences
  at::Tensor correct, correct5;     // images
};

// Throws Error naming a sample of `source` that is broken.
void check_finite_pixels(const BatchSource& source, const MakeBatch& make) {
  for (int64_t b = 0; const std::optional<Batch> batch = make(b); ++b) {
    if (!batch->pixel_values.defined()) return;
    check_finite_pixels(
        *batch, concat("batch ", b + 1, " of the evaluation's ", source.samples(), " samples"));
  }
}

// Samples in order; the last batch may be short.
MakeBatch evaluation_batches(const BatchSource& source, int64_t size, int64_t batches,
                             uint64_t seed) {
  return [=, &source](int64_t b) -> std::optional<Batch> {
    if (b == batches) return std::nullopt;
    return batch_in_order(source, b * size, std::min(size, source.samples() - b * size), seed);
  };
}

}  // namespace

Json Evaluation::to_json() const {
  Json json = {{"loss", loss}};
  if (optimal_loss) json["optimal_loss"] = *optimal_loss;
  if (accuracy) {
    json["accuracy"] = *accuracy;
    json["top5_accuracy"] = *top5_accuracy;
  } else {
    json["perplexity"] = std::exp(loss);
  }
  json["samples"] = samples;
  json["tokens"] = tokens;
  if (!accuracy)
    json["reference"] = {{"loss", reference_loss}, {"perplexity", std::exp(reference_loss)}};
  if (!outliers.is_null()) json["outliers"] = outliers;
  return json;
}

EvaluationOptions evaluation_options(const RunConfig& config) {
  EvaluationOptions options;
  options.batch_size = config.eval.batch_size;
  options.max_batches = config.eval.max_batches;
  options.outliers = config.eval.outliers;
  options.sinks = config.eval.sinks;
  options.kurtosis_batches = config.eval.kurtosis_batches;
  options.seed = static_cast<uint64_t>(config.eval.seed);
  options.precision = config.precision;
  options.device = choose_device(config.device);
  return options;
}

double headline(const Json& evaluation) {
  if (evaluation.contains("accuracy")) return 100 * evaluation.at("accuracy").get<double>();
  const Json& perplexity = evaluation.at("perplexity");
  return perplexity.is_null() ? std::numeric_limits<double>::infinity() : perplexity.get<double>();
}

Json largest_ratio(const Json& evaluation) {
  Json largest;
  const Json::json_pointer ratios("/outliers/max_to_median");
  if (!evaluation.contains(ratios)) return largest;
  for (const auto& [tap, ratio] : evaluation.at(ratios).items())
    if (is_layer_output(tap) && ratio.is_number() && (largest.is_null() || ratio > largest))
      largest = ratio;
  return largest;
}

void check_finite(const Json& evaluation) {
  const Json& loss = evaluation.at("loss");  // null in a file that was read back
  check(!loss.is_null() && std::isfinite(loss.get<double>()),
        "the evaluation's loss is not finite: nor are weights or activations of the model");
}

void check_inputs(const BatchSource& source, const Pretrained& pretrained) {
  source.check_fits(pretrained.config->limits());
  check_class_order(source.class_names(), pretrained);
}

Evaluation evaluate(const Pretrained& pretrained, const BatchSource& source,
                    const EvaluationOptions& options, const std::vector<TapListener*>& inner) {
  check_inputs(source, pretrained);
  at::NoGradGuard no_grad;
  const Autocast autocast(options.precision, options.device);
  const ModelTraits traits = pretrained.config->traits();
  OutlierListener outliers(traits.figures);
  std::vector<TapListener*> listeners = inner;
  if (options.outliers) listeners.push_back(&outliers);
  SinkListener sinks(traits.task == "clm");
  if (options.sinks) listeners.push_back(&sinks);
  ForwardContext context{Taps(listeners), DropoutStream()};

  const int64_t size = options.batch_size;
  const int64_t all = (source.samples() - 1) / size + 1,
                batches = std::min(all, options.max_batches.value_or(all));
  std::optional<Progress> progress;
  if (!options.label.empty())
    progress.emplace(options.label, batches, "samples", static_cast<double>(size));
  Evaluation result;
  Sums sums(options.device);
  int64_t reference_weight = 0;
  const MakeBatch make = evaluation_batches(source, size, batches, options.seed);
  Loader loader(make, options.device);
  for (int64_t b = 0; const std::optional<Batch> made = loader.next(); ++b) {
    stop_if_signalled();
    const int64_t labels = made->label_count(traits.task == "clm");
    const Batch batch = made->to(options.device);
    outliers.begin(batch, b < options.kurtosis_batches);
    sinks.begin(batch);
    const ModelOutput output = pretrained.model->forward(batch, context);
    const bool images = batch.pixel_values.defined();
    const int64_t counted = images ? labels : batch.size();  // of images, those that were readable
    if (labels > 0) {
      const at::Tensor loss = output.loss.to(at::kDouble);
      sums.loss += loss * static_cast<double>(labels);
      sums.reference_loss += loss * static_cast<double>(counted);
      reference_weight += counted;
    }
    if (images) {
      sums.correct += count_top(output.logits, batch.labels, 1);
      sums.correct5 += count_top(output.logits, batch.labels, 5);
    }
    result.samples += counted;
    result.tokens += labels;
    if (progress) progress->update(b + 1);
  }
  check(result.tokens > 0, "the evaluation data holds no label that counts");
  result.loss = sums.loss.item<double>() / static_cast<double>(result.tokens);
  result.reference_loss =
      sums.reference_loss.item<double>() / static_cast<double>(reference_weight);
  if (!std::isfinite(result.loss)) check_finite_pixels(source, make);
  result.optimal_loss = source.optimal_loss();
  if (traits.task == "classification") {
    const double samples = static_cast<double>(result.samples);
    result.accuracy = static_cast<double>(sums.correct.item<int64_t>()) / samples;
    result.top5_accuracy = static_cast<double>(sums.correct5.item<int64_t>()) / samples;
  }
  if (progress) progress->finish();  // now that the device has done what it was given
  const int64_t layers = pretrained.config->layers();
  if (options.outliers) result.outliers = outliers.report(layers);
  if (options.sinks) result.outliers["sinks"] = sinks.report(layers);
  return result;
}

}  // namespace quench
