#include "eval/outliers.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"

namespace quench {
namespace {

constexpr int64_t kCloseSequences = 32;  // whose medians are taken: that costs as much as all else

// A NaN stays.
void raise_to(double& largest, double x) {
  if (x > largest || std::isnan(x)) largest = x;
}

}  // namespace

void OutlierListener::begin(const Batch& batch, bool kurtosis) {
  kurtosis_ = kurtosis;
  looks_closer_ = sequences_ < kCloseSequences;
  sequences_ += batch.size();
  ids_ = batch.input_ids;
}

bool OutlierListener::wants(const std::string& tap) const {
  static const std::vector<std::string> points = {
      "attention.output", "attention.residual", "attention.norm",  "ffn.output", "ffn.residual",
      "ffn.norm",         "embeddings.sum",     "embeddings.norm", "final_norm"};
  return is_layer_output(tap) ||
         std::any_of(points.begin(), points.end(),
                     [&](const std::string& point) { return tap.ends_with(point); });
}

at::Tensor OutlierListener::activation(const std::string& tap, const at::Tensor& x) {
  const auto& points = figures_.token_rows;
  const bool token_rows = std::any_of(points.begin(), points.end(),
                                      [&](std::string_view point) { return tap.ends_with(point); });
  if (last_.value.is_same(x) && last_.token_rows == token_rows) {
    repeats_[tap] = last_.tap;
    return x;
  }
  last_ = {tap, x, token_rows};
  taps_[tap].add(x, token_rows ? RowKind::kToken : RowKind::kSequence, kurtosis_);
  if (looks_closer_) largest_[tap].add(x, ids_);
  return x;
}

const std::string& OutlierListener::measured(const std::string& tap) const {
  const auto repeat = repeats_.find(tap);
  return repeat == repeats_.end() ? tap : repeat->second;
}

const TensorStatistics& OutlierListener::statistics(const std::string& tap) const {
  return taps_.at(measured(tap));
}

double OutlierListener::largest(std::string_view point, int64_t layers, Statistic statistic) const {
  double largest = 0;
  for (int64_t j = 0; j < layers; ++j)
    raise_to(largest, (statistics(concat("layers.", j, ".", point)).*statistic)());
  return largest;
}

Json OutlierListener::reference(int64_t layers) const {
  Json figures = Json::object();
  double max_inf_norm = 0, kurtosis_sum = 0, max_kurtosis = 0;
  int64_t kurtosis_count = 0;
  for (const PaperFigures::Watched& w : figures_.watched) {
    const TensorStatistics& statistics = this->statistics(w.tap);
    figures[w.module] = statistics.mean_inf_norm();
    raise_to(max_inf_norm, statistics.mean_inf_norm());
    if (!w.kurtosis) continue;
    kurtosis_sum += statistics.mean_kurtosis();
    raise_to(max_kurtosis, statistics.mean_kurtosis());
    ++kurtosis_count;
  }
  for (const auto& [figure, point] : figures_.max_inf_norms)
    figures[std::string(figure)] =
        point.empty() ? max_inf_norm : largest(point, layers, &TensorStatistics::mean_inf_norm);
  figures["avg_kurtosis"] = kurtosis_sum / static_cast<double>(kurtosis_count);
  figures["max_kurtosis"] = max_kurtosis;
  for (const auto& [figure, point] : figures_.max_kurtoses)
    figures[std::string(figure)] = largest(point, layers, &TensorStatistics::mean_kurtosis);
  return figures;
}

Json OutlierListener::report(int64_t layers) const {
  const Json reference = this->reference(layers);
  Json report = {
      {"max_inf_norm", largest(figures_.headline, layers, &TensorStatistics::mean_inf_norm)},
      {"avg_kurtosis", reference.at("avg_kurtosis")},
      {"max_kurtosis", reference.at("max_kurtosis")},
      {"max_to_median", Json::object()},
      {"largest", Json::object()},
      {"taps", Json::object()}};
  std::vector<std::string> names;
  for (const auto& [tap, measured] : taps_) names.push_back(tap);
  for (const auto& [tap, other] : repeats_) names.push_back(tap);
  std::ranges::sort(names);
  Json outliers_per_layer = Json::array();
  for (int64_t j = 0; j < layers; ++j) {
    int64_t count = 0;
    for (const std::string& tap : names)
      if (tap.starts_with(concat("layers.", j, "."))) count += statistics(tap).outliers();
    outliers_per_layer.push_back(count);
  }
  report["outliers_per_layer"] = outliers_per_layer;
  for (const std::string& tap : names) {
    report["taps"][tap] = statistics(tap).to_json();
    const auto closer = largest_.find(measured(tap));
    if (closer == largest_.end()) continue;
    report["max_to_median"][tap] = closer->second.max_to_median();
    report["largest"][tap] = closer->second.to_json();
  }
  report["reference"] = reference;
  return report;
}

}  // namespace quench
