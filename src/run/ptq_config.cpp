#include "run/ptq_config.h"

#include "quant/estimator.h"

namespace quench {

using config::at_least;
using config::between;
using config::one_of;

static config::Constraint searches() { return one_of({"auto", "grid", "golden_section"}); }

void describe(config::Fields& f, WeightQuantization& c) {
  f("enabled", c.enabled, "quantize weights");
  f("bits", c.bits, "bit width", between(2, 16));
  f("estimator", c.estimator, "how the range is found", one_of({"minmax", "mse"}));
  f("search", c.search, "how mse searches", searches());
  f("granularity", c.granularity, "one range a tensor or a row",
    one_of({"per_tensor", "per_channel"}));
  f("symmetric", c.symmetric, "grid around zero");
}

void describe(config::Fields& f, ActivationQuantization& c) {
  f("enabled", c.enabled, "quantize activations");
  f("bits", c.bits, "bit width", between(2, 16));
  f("estimator", c.estimator, "how the range is found", one_of(estimator_names()));
  f("search", c.search, "how mse searches", searches());
  f("percentile", c.percentile,
    "minmax and running_minmax: clip to the (100 - p)-th and p-th percentile", between(50, 100));
  f("symmetric", c.symmetric, "grid around zero");
  f.require(!c.percentile || c.estimator != "mse", "percentile",
            "has no meaning with estimator mse");
  f.require(!c.percentile || *c.percentile > 50, "percentile", "expected above 50");
}

void describe(config::Fields& f, QuantizerOverride& c) {
  f("match", c.match, "glob over quantizer names");
  f("enabled", c.enabled, "false: leave in full precision");
  f("bits", c.bits, "bit width", between(2, 16));
  f("symmetric", c.symmetric, "grid around zero");
  f("estimator", c.estimator, "how the range is found", one_of(estimator_names()));
}

void describe(config::Fields& f, CalibrationConfig& c) {
  f.variant("data", c.data, data_types(), "default: the run's own data; its training split");
  f("batches", c.batches, "batches that set the ranges", at_least(1));
  f("batch_size", c.batch_size, "samples a batch", at_least(1));
  f("shuffle", c.shuffle, "draw the samples at random (by seed) instead of in order");
}

void describe(config::Fields& f, PtqEvaluationConfig& c) {
  f.variant("data", c.data, data_types(), "default: the run's own data; its validation split");
  f("batch_size", c.batch_size, "samples a batch", at_least(1));
  f("max_batches", c.max_batches, "stop after so many batches", at_least(1));
}

void describe(config::Fields& f, PtqConfig& c) {
  f("placement", c.placement,
    "reference: as in the paper's code; full: every tap, gates and head included",
    one_of({"reference", "full"}));
  f.section("weights", c.weights, "quantizers of weights");
  f.section("activations", c.activations, "quantizers of activations");
  f("quantize_head", c.quantize_head, "quantize the last layers too");
  f.list("overrides", c.overrides, "exceptions by name; the last match wins");
  f.section("calibration", c.calibration, "data that sets the ranges");
  f.section("evaluation", c.evaluation, "data that measures the result");
  f("seed", c.seed, "which samples calibrate, and their masks", at_least(0));
}

}  // namespace quench
