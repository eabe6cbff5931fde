#include "taps/largest.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <map>
#include <string>

namespace quench {
namespace {

constexpr size_t kListed = 3;

// [{key: value, "share"}] of the most frequent values; of equally frequent ones the least first.
Json most_frequent(const std::vector<at::Tensor>& parts, const std::string& key) {
  const at::Tensor all = at::cat(parts).cpu();
  std::map<int64_t, int64_t> counts;
  for (int64_t i = 0; i < all.numel(); ++i) ++counts[all.const_data_ptr<int64_t>()[i]];
  std::vector<std::pair<int64_t, int64_t>> order(counts.begin(), counts.end());
  std::ranges::stable_sort(order, std::greater(), &std::pair<int64_t, int64_t>::second);
  Json json = Json::array();
  for (const auto& [value, count] : order) {
    if (json.size() == kListed) break;
    json.push_back(
        {{key, value}, {"share", static_cast<double>(count) / static_cast<double>(all.numel())}});
  }
  return json;
}

}  // namespace

void LargestValues::add(const at::Tensor& source, const at::Tensor& ids) {
  const at::Tensor x = source.dim() == 2 ? source.unsqueeze(1) : source;
  const at::Tensor magnitudes = x.detach().abs().to(at::kFloat).flatten(1);
  const auto [largest, at] = magnitudes.max(1);
  sequences_ += x.size(0);
  ratios_.push_back(largest / std::get<0>(magnitudes.median(1)));
  positions_.push_back(at.div(x.size(2), "floor"));
  dimensions_.push_back(at.remainder(x.size(2)));
  if (ids.defined() && ids.size(1) == x.size(1))
    tokens_.push_back(ids.gather(1, positions_.back().unsqueeze(1)).squeeze(1));
}

double LargestValues::max_to_median() const {
  if (sequences_ == 0) return std::numeric_limits<double>::quiet_NaN();
  return at::cat(ratios_).mean(at::kDouble).item<double>();
}

Json LargestValues::to_json() const {
  Json json = {{"positions", most_frequent(positions_, "position")}};
  if (!tokens_.empty()) json["tokens"] = most_frequent(tokens_, "id");
  json["dimensions"] = most_frequent(dimensions_, "dimension");
  return json;
}

}  // namespace quench
