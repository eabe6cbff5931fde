#include "sweep/results.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <set>
#include <sstream>

#include "base/error.h"
#include "io/atomic_file.h"

namespace quench {
namespace {

std::vector<double> all_of(const Figure& figure) {
  std::vector<double> all;
  for (const auto& [seed, values] : figure) all.insert(all.end(), values.begin(), values.end());
  return all;
}

double mean(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) sum += value;
  return sum / static_cast<double>(values.size());
}

double median(std::vector<double> values) {
  if (values.empty()) return std::numeric_limits<double>::quiet_NaN();
  std::ranges::sort(values);
  return values[values.size() / 2];
}

// Student's t for a two-sided interval of 95 %.
double t_quantile(size_t degrees) {
  static const double kTable[] = {12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262};
  return degrees <= std::size(kTable) ? kTable[degrees - 1] : 2.228;
}

bool differs(const Figure& figure, const Figure& baseline) {
  std::vector<double> differences;
  for (const auto& [seed, values] : figure)
    if (const auto other = baseline.find(seed); other != baseline.end())
      differences.push_back(mean(values) - mean(other->second));
  if (differences.size() < 2) return false;
  const double center = mean(differences), n = static_cast<double>(differences.size());
  double squares = 0;
  for (const double d : differences) squares += (d - center) * (d - center);
  const double half = t_quantile(differences.size() - 1) * std::sqrt(squares / (n - 1) / n);
  return std::isfinite(center) && std::abs(center) > half;
}

// The time at which every training of the sweep was still going on, or just done.
double equal_time(const SweepTable& sweep) {
  double least = std::numeric_limits<double>::infinity();
  for (const RowResult& row : sweep.rows)
    for (const auto& [seed, curve] : row.curves) least = std::min(least, curve.seconds);
  return least;
}

Figure losses_at(const RowResult& row, double seconds) {
  Figure losses;
  for (const auto& [seed, curve] : row.curves)
    if (const auto loss = curve.loss_at(seconds)) losses[seed] = {*loss};
  return losses;
}

Figure step_seconds(const RowResult& row) {
  Figure seconds;
  for (const auto& [seed, curve] : row.curves)
    if (curve.step_seconds > 0) seconds[seed] = {curve.step_seconds};
  return seconds;
}

Figure scaled(Figure figure, double factor) {
  for (auto& [seed, values] : figure)
    for (double& value : values) value *= factor;
  return figure;
}

// "7", "6, 7" of several seeds; "> 8" where none of the bits sufficed.
std::string least_bits(const RowResult& row, const std::string& setting, const char* share) {
  const auto found = row.bits.find(setting);
  if (found == row.bits.end()) return "-";
  std::set<int64_t> least;
  bool none = false;
  int64_t most = 0;
  for (const Json& seed : found->second) {
    for (const Json& point : seed.at("bits")) most = std::max<int64_t>(most, point.at("bits"));
    const Json& bits = seed.at("bits_within").at(share);
    if (bits.is_null()) {
      none = true;
    } else {
      least.insert(bits.get<int64_t>());
    }
  }
  std::string text;
  for (const int64_t bits : least) text += (text.empty() ? "" : ", ") + std::to_string(bits);
  if (none) text += concat(text.empty() ? "" : ", ", "> ", most);
  return text;
}

class TableMaker {
 public:
  explicit TableMaker(const SweepTable& sweep) : sweep_(sweep), rows_(order()) {
    for (const RowResult* row : rows_) {
      table_.rows.push_back({row->name});
      if (sweep.baseline && row->name == *sweep.baseline) baseline_ = row;
    }
    table_.columns = {{"method"}};
  }

  // A column of text; nothing if `optional` and no row has any.
  template <class Cell>
  void add_text(const std::string& header, bool optional, const Cell& cell) {
    std::vector<std::string> cells;
    for (const RowResult* row : rows_) cells.push_back(cell(*row));
    if (optional && std::ranges::all_of(cells, [](const auto& text) { return text == "-"; }))
      return;
    table_.columns.push_back({header, Align::kRight});
    for (size_t i = 0; i < cells.size(); ++i) table_.rows[i].push_back(cells[i]);
  }

  template <class Of>
  void add(const std::string& header, int digits, bool optional, const Of& of) {
    add_text(header, optional, [&](const RowResult& row) {
      const Figure figure = of(row);
      const bool star = baseline_ && &row != baseline_ && differs(figure, of(*baseline_));
      return mean_std(all_of(figure), digits) + (star ? " *" : "");
    });
  }

  void add_extra_parameters() {
    add_text("extra parameters", false, [&](const RowResult& row) -> std::string {
      if (!baseline_ || row.parameters.empty() || baseline_->parameters.empty()) return "-";
      const double extra = all_of(row.parameters).front() - all_of(baseline_->parameters).front();
      return std::to_string(std::llround(extra));
    });
  }

  Table take(const std::string& title) {
    table_.title = title;
    return std::move(table_);
  }

 private:
  std::vector<const RowResult*> order() const {
    std::vector<const RowResult*> rows;
    for (const RowResult& row : sweep_.rows) rows.push_back(&row);
    if (!sweep_.baseline || sweep_.settings.empty()) return rows;
    const auto key = [&](const RowResult* row) {
      const auto found = row->quantized.find(sweep_.settings.front());
      if (found == row->quantized.end() || found->second.empty())
        return std::numeric_limits<double>::infinity();
      const double value = mean(all_of(found->second));
      return !std::isfinite(value) ? std::numeric_limits<double>::max()
             : row->accuracy       ? -value
                                   : value;
    };
    std::ranges::stable_sort(rows, std::less(), key);
    return rows;
  }

  const SweepTable& sweep_;
  std::vector<const RowResult*> rows_;
  const RowResult* baseline_ = nullptr;
  Table table_;
};

Figure quantized_of(const RowResult& row, const std::string& setting) {
  const auto found = row.quantized.find(setting);
  return found == row.quantized.end() ? Figure() : found->second;
}

}  // namespace

std::optional<double> TrainingCurve::loss_at(double time) const {
  if (losses.empty() || time < losses.front().first) return std::nullopt;
  for (size_t i = 1; i < losses.size(); ++i) {
    const auto [before, first] = losses[i - 1];
    const auto [after, second] = losses[i];
    if (time > after) continue;
    return after > before ? first + (second - first) * (time - before) / (after - before) : second;
  }
  return losses.back().second;
}

TrainingCurve read_training_curve(const std::filesystem::path& run, int64_t samples_a_step) {
  TrainingCurve curve;
  std::vector<double> steps;
  int64_t last = 0;
  std::istringstream lines(read_file(run / "metrics.jsonl"));
  for (std::string line; std::getline(lines, line);) {
    const Json json = parse_json(line, /*allow_exceptions=*/false);
    if (!json.is_object()) continue;
    const double rate = json.value("samples_per_second", 0.0);
    if (rate > 0) {
      const int64_t step = json.at("step");
      steps.push_back(static_cast<double>(samples_a_step) / rate);
      curve.seconds += steps.back() * static_cast<double>(step - last);
      last = step;
    }
    if (json.contains("eval_loss") && json.at("eval_loss").is_number())
      curve.losses.emplace_back(curve.seconds, json.at("eval_loss"));
  }
  if (!steps.empty()) curve.step_seconds = median(steps);
  return curve;
}

Table to_table(const SweepTable& sweep, const std::string& title) {
  const auto accuracies = std::ranges::count_if(sweep.rows, &RowResult::accuracy);
  const std::string unit = accuracies == 0                        ? " ppl"
                           : accuracies == std::ssize(sweep.rows) ? " acc."
                                                                  : " ppl or acc.";
  TableMaker maker(sweep);
  maker.add("FP" + unit, 2, false, [](const RowResult& row) { return row.full; });
  if (sweep.baseline)
    maker.add("loss at equal time", 3, true,
              [time = equal_time(sweep)](const RowResult& row) { return losses_at(row, time); });
  maker.add("max inf norm", 1, false, [](const RowResult& row) { return row.inf_norm; });
  maker.add("avg kurtosis", 1, false, [](const RowResult& row) { return row.kurtosis; });
  if (sweep.baseline)
    maker.add("max/median", 0, true, [](const RowResult& row) { return row.max_to_median; });
  maker.add("sink rate %", 1, true,
            [](const RowResult& row) { return scaled(row.sink_rate, 100); });
  for (const std::string& setting : sweep.settings) {
    maker.add(setting + unit, 2, false,
              [&](const RowResult& row) { return quantized_of(row, setting); });
    for (const char* share : {"1%", "10%"})
      maker.add_text(concat("bits ", share), true,
                     [&](const RowResult& row) { return least_bits(row, setting, share); });
  }
  if (sweep.baseline) {
    maker.add_extra_parameters();
    maker.add("ms a step", 1, true,
              [](const RowResult& row) { return scaled(step_seconds(row), 1000); });
  }
  return maker.take(title);
}

Json to_json(const SweepTable& sweep) {
  Json rows = Json::array();
  const double time = equal_time(sweep);
  for (const RowResult& row : sweep.rows) {
    Json quantized = Json::object();
    for (const std::string& setting : sweep.settings)
      quantized[setting] = all_of(quantized_of(row, setting));
    rows.push_back({{"name", row.name},
                    {row.accuracy ? "accuracy" : "perplexity", all_of(row.full)},
                    {"max_inf_norm", all_of(row.inf_norm)},
                    {"avg_kurtosis", all_of(row.kurtosis)},
                    {"max_to_median", all_of(row.max_to_median)},
                    {"sink_rate", all_of(row.sink_rate)},
                    {"parameters", all_of(row.parameters)},
                    {"quantized", quantized},
                    {"bits", row.bits}});
    if (!sweep.baseline) continue;  // without times a sweep is the same when it is made again
    rows.back()["step_seconds"] = all_of(step_seconds(row));
    rows.back()["loss_at_equal_time"] = all_of(losses_at(row, time));
  }
  return rows;
}

}  // namespace quench
