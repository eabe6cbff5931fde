#include "eval/sinks.h"

#include <ATen/ATen.h>

#include <vector>

#include "base/error.h"

namespace quench {
namespace {

constexpr int64_t kSequences = 100;

// Of float64 sums [H].
std::vector<double> means(const at::Tensor& sums, int64_t count) {
  const at::Tensor x = (sums / static_cast<double>(count)).cpu();
  return {x.const_data_ptr<double>(), x.const_data_ptr<double>() + x.numel()};
}

}  // namespace

void SinkListener::begin(const Batch& batch) {
  looking_ = sequences_ < kSequences;
  if (!looking_) return;
  batch_ = batch;
  sequences_ += batch.size();
}

bool SinkListener::wants(const std::string& tap) const {
  return looking_ && tap.ends_with("attention.probs");
}

at::Tensor SinkListener::seen(const at::Tensor& probs) const {
  at::Tensor seen = at::ones(probs.sizes().slice(2), probs.options().dtype(at::kBool));
  if (causal_) seen.tril_();
  seen = seen.unsqueeze(0).unsqueeze(0);
  if (!batch_.attention_mask.defined()) return seen.expand({probs.size(0), 1, -1, -1});
  const at::Tensor mask = batch_.attention_mask.unsqueeze(1);  // [B, 1, T]
  return seen.logical_and(mask.unsqueeze(2)).logical_and(mask.unsqueeze(3));
}

at::Tensor SinkListener::activation(const std::string& tap, const at::Tensor& probs) {
  // One sequence at a time: each tensor of probabilities is large.
  const at::Tensor seen = this->seen(probs);
  if (uniform_tap_.empty()) uniform_tap_ = tap;
  for (int64_t b = 0; b < probs.size(0); ++b) add(tap, probs.narrow(0, b, 1), seen.narrow(0, b, 1));
  return probs;
}

void SinkListener::add(const std::string& tap, const at::Tensor& probs, const at::Tensor& seen) {
  const at::Tensor p = probs.to(at::kDouble);
  const at::Tensor keys = seen.sum(-1), counts = keys > 0;  // of queries, [B, 1, T]
  const at::Tensor queries = counts.sum(-1).clamp_min(1);   // [B, 1]
  const auto mean = [&](const at::Tensor& x) { return (x * counts).sum(-1) / queries; };
  if (tap == uniform_tap_) {
    const at::Tensor share = seen.select(-1, 0) / keys.clamp_min(1).to(at::kDouble);
    const at::Tensor sum = mean(share).sum();
    uniform_ = uniform_.defined() ? uniform_ + sum : sum;
  }
  const at::Tensor divided = p / (p.abs().sum(-1, /*keepdim=*/true) + 1e-8);
  const at::Tensor seen_by = seen.sum(-2);  // queries that see a key, [B, 1, N]
  const at::Tensor alpha = (divided * seen).sum(-2) / seen_by.clamp_min(1);
  const at::Tensor often = seen_by * 2 >= queries.unsqueeze(-1);
  const auto rate = [](const at::Tensor& x) { return (x > kSinkThreshold).sum(0).to(at::kDouble); };
  const Head now{mean(p.select(-1, 0)).sum(0), rate(alpha.select(-1, 0)),
                 rate((alpha * often).amax(-1))};
  Head& head = heads_[tap];
  const auto raise = [](at::Tensor& sum, const at::Tensor& x) {
    sum = sum.defined() ? sum + x : x;
  };
  raise(head.paid, now.paid);
  raise(head.sink, now.sink);
  raise(head.any_sink, now.any_sink);
}

Json SinkListener::report(int64_t layers) const {
  Json per_head = Json::array();
  double rate = 0, any = 0;
  for (int64_t j = 0; j < layers; ++j) {
    const Head& head = heads_.at(concat("layers.", j, ".attention.probs"));
    per_head.push_back(means(head.paid, sequences_));
    rate += head.sink.mean().item<double>();
    any += head.any_sink.mean().item<double>();
  }
  const double all = static_cast<double>(layers * sequences_);
  return {{"rate", rate / all},
          {"rate_any_key", any / all},
          {"threshold", kSinkThreshold},
          {"per_head", per_head},
          {"uniform", uniform_.item<double>() / static_cast<double>(sequences_)},
          {"sequences", sequences_}};
}

}  // namespace quench
