#include "eval/outliers.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/error.h"

namespace quench {
namespace {

bool ends_with(const std::string& text, const std::string& end) { return text.ends_with(end); }

// A tensor that the paper's code watches: its module's name there, and our tap.
struct Watched {
  std::string name, tap;
  bool kurtosis = true;
};

std::vector<Watched> watched_bert(int64_t layers) {
  std::vector<Watched> all;
  for (int64_t j = 0; j < layers; ++j) {
    const std::string name = concat("bert.encoder.layer.", j, ".output."),
                      tap = concat("layers.", j, ".ffn.");
    all.push_back({name + "dense", tap + "output"});
    all.push_back({name + "LayerNorm", tap + "norm"});
    all.push_back({name + "LayerNorm.input", tap + "residual", /*kurtosis=*/false});
  }
  return all;
}

std::vector<Watched> watched_opt(int64_t layers, bool has_final_norm) {
  std::vector<Watched> all;
  if (has_final_norm) all.push_back({"model.decoder.final_layer_norm", "final_norm"});
  for (const auto& [module, point] : {std::pair{"", "output"},
                                      {".fc2", "ffn.output"},
                                      {".final_layer_norm", "ffn.norm"},
                                      {".self_attn.out_proj", "attention.output"},
                                      {".self_attn_layer_norm", "attention.norm"}})
    for (int64_t j = 0; j < layers; ++j)
      all.push_back({concat("model.decoder.layers.", j, module), concat("layers.", j, ".", point)});
  return all;
}

// A NaN stays.
void raise_to(double& largest, double x) {
  if (x > largest || std::isnan(x)) largest = x;
}

}  // namespace

bool OutlierListener::wants(const std::string& tap) const {
  static const std::vector<std::string> points = {
      "attention.output", "attention.residual", "attention.norm",  "ffn.output", "ffn.residual",
      "ffn.norm",         "embeddings.sum",     "embeddings.norm", "final_norm"};
  if (std::any_of(points.begin(), points.end(),
                  [&](const std::string& point) { return ends_with(tap, point); }))
    return true;
  return tap.starts_with("layers.") && std::count(tap.begin(), tap.end(), '.') == 2 &&
         ends_with(tap, ".output");
}

RowKind OutlierListener::rows(const std::string& tap) const {
  // Hugging Face's OPT flattens to [B T, D] around the feed-forward block.
  const bool flattened = model_type_ == "opt" && (ends_with(tap, "ffn.output") ||
                                                  (pre_norm_ && ends_with(tap, "ffn.norm")));
  return flattened ? RowKind::kToken : RowKind::kSequence;
}

at::Tensor OutlierListener::activation(const std::string& tap, const at::Tensor& x) {
  taps_[tap].add(x.detach(), rows(tap), kurtosis_);
  return x;
}

Json OutlierListener::report(int64_t layers) const {
  const auto inf_norm = [&](const std::string& tap) { return taps_.at(tap).mean_inf_norm(); };
  const auto kurtosis = [&](const std::string& tap) { return taps_.at(tap).mean_kurtosis(); };
  double max_inf = 0, max_layer_inf = 0, max_ffn_inf = 0, max_layer_kurtosis = 0;
  for (int64_t j = 0; j < layers; ++j) {
    const std::string layer = concat("layers.", j);
    raise_to(max_layer_inf, inf_norm(layer + ".output"));
    raise_to(max_ffn_inf, inf_norm(layer + ".ffn.output"));
    raise_to(max_layer_kurtosis, kurtosis(layer + ".output"));
  }
  std::vector<Watched> watched;
  if (model_type_ == "bert") watched = watched_bert(layers);
  if (model_type_ == "opt") watched = watched_opt(layers, taps_.count("final_norm") > 0);
  if (model_type_ == "vit")
    for (int64_t j = 0; j < layers; ++j)
      watched.push_back({concat("vit.encoder.layer.", j), concat("layers.", j, ".output")});

  Json reference = Json::object();
  double kurtosis_sum = 0, max_kurtosis = 0;
  int64_t kurtosis_count = 0;
  for (const Watched& w : watched) {
    reference[w.name] = inf_norm(w.tap);
    raise_to(max_inf, inf_norm(w.tap));
    if (!w.kurtosis) continue;
    kurtosis_sum += kurtosis(w.tap);
    raise_to(max_kurtosis, kurtosis(w.tap));
    ++kurtosis_count;
  }
  const double avg_kurtosis = kurtosis_sum / static_cast<double>(kurtosis_count);
  const auto max_over_layers = [&](const std::string& point) {
    double largest = 0;
    for (int64_t j = 0; j < layers; ++j)
      raise_to(largest, inf_norm(concat("layers.", j, ".", point)));
    return largest;
  };
  if (model_type_ == "bert") {
    reference["max_ffn_out_inf_norm"] = max_ffn_inf;
    reference["max_LN_out_inf_norm"] = max_over_layers("ffn.norm");
    reference["max_LN_inp_inf_norm"] = max_over_layers("ffn.residual");
  } else {
    reference["max_inf_norm"] = max_inf;
    reference["max_ffn_inf_norm"] = max_ffn_inf;
    reference["max_layer_inf_norm"] = max_layer_inf;
  }
  reference["avg_kurtosis"] = avg_kurtosis;
  reference["max_kurtosis"] = max_kurtosis;
  if (model_type_ != "bert") reference["max_kurtosis_layers"] = max_layer_kurtosis;

  Json report = {{"max_inf_norm", model_type_ == "bert" ? max_ffn_inf : max_layer_inf},
                 {"avg_kurtosis", avg_kurtosis},
                 {"max_kurtosis", max_kurtosis},
                 {"taps", Json::object()}};
  Json outliers_per_layer = Json::array();
  for (int64_t j = 0; j < layers; ++j) {
    int64_t count = 0;
    for (const auto& [tap, statistics] : taps_)
      if (tap.starts_with(concat("layers.", j, "."))) count += statistics.outliers();
    outliers_per_layer.push_back(count);
  }
  report["outliers_per_layer"] = outliers_per_layer;
  for (const auto& [tap, statistics] : taps_) report["taps"][tap] = statistics.to_json();
  report["reference"] = reference;
  return report;
}

}  // namespace quench
