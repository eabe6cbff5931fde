// Loss, perplexity or accuracy over a data set, with the outlier statistics of every tap on the way
// (SPEC 9) where they are asked for.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "batches/source.h"
#include "models/pretrained.h"
#include "run/config.h"
#include "taps/taps.h"

namespace quench {

struct EvaluationOptions {
  int64_t batch_size = 32;
  std::optional<int64_t> max_batches;
  bool outliers = true;  // take the statistics
  bool sinks = false;    // look at the attention of the first sequences
  int64_t kurtosis_batches = 257;
  uint64_t seed = 1000;  // of the masks
  std::string precision = "fp32";
  at::Device device = at::kCPU;
  std::string label = "evaluate";  // of the progress line; empty: none
};
// As the config's `eval`, `precision` and `device` say.
EvaluationOptions evaluation_options(const RunConfig& config);

struct Evaluation {
  double loss = 0;  // mean over all labels
  // Mean of the batches' losses, weighted by their sequences: what the paper's code reports. Of
  // language models; it depends on the batch size.
  double reference_loss = 0;
  std::optional<double> optimal_loss;  // the least that can be expected, where the data tells
  std::optional<double> accuracy, top5_accuracy;  // of classification
  int64_t samples = 0;
  int64_t tokens = 0;  // labels that count
  Json outliers;       // docs/design.md 4.3; null: not asked for

  // {"loss", "optimal_loss" (if known), "perplexity" | "accuracy", "samples", "tokens",
  // "reference": {"loss", "perplexity"} (of language models), "outliers" (if asked for)}
  Json to_json() const;
};

// The one figure of an evaluation's JSON: accuracy in %, or perplexity (infinite where JSON has
// null).
double headline(const Json& evaluation);

// Of the layers' outputs in an evaluation's JSON, max |x| to median |x| where that is largest;
// null: not measured.
Json largest_ratio(const Json& evaluation);

// Throws Error if the loss of an evaluation's JSON is not finite.
void check_finite(const Json& evaluation);

// Throws Error if `source` holds what the model does not take, or numbers its classes in another
// way.
void check_inputs(const BatchSource& source, const Pretrained& pretrained);

// Runs the model over `source` in order. `inner` listens before the statistics: they see what it
// lets through. Without either the model computes only what the loss needs. Throws Interrupted
// (base/signals.h) between batches, Error for a picture whose pixels are not finite.
Evaluation evaluate(const Pretrained& pretrained, const BatchSource& source,
                    const EvaluationOptions& options, const std::vector<TapListener*>& inner = {});

}  // namespace quench
