#include "train/session.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/error.h"
#include "base/signals.h"
#include "eval/precision.h"
#include "penalties/penalties.h"
#include "train/schedule.h"

namespace quench {
namespace {

// A smaller one would make gradients smaller than they are: what overflows at this one is no matter
// of scaling. It also bounds the steps skipped in a row: 17 from the scale at the start.
constexpr double kLeastLossScale = 1;

double rate_of(const RunConfig& config, int64_t step) {
  return config.optimizer->learning_rate *
         schedule_factor(config.schedule, config.train.steps, step);
}

// Those of the config, and what the model's normalizer asks for.
std::vector<std::shared_ptr<Penalty>> all_penalties(const RunConfig& config,
                                                    const Pretrained& pretrained) {
  std::vector<std::shared_ptr<Penalty>> all = config.train.penalties;
  const double density = pretrained.attention.softmax->density_weight();
  if (density > 0) all.push_back(make_density(density));
  return all;
}

}  // namespace

TrainingSession::TrainingSession(const RunConfig& config, Pretrained& pretrained, at::Device device)
    : config_(config),
      pretrained_(pretrained),
      device_(device),
      penalties_(all_penalties(config, pretrained)) {
  pretrained.model->parameters.to(device, at::kFloat);
  optimizer_ = config.optimizer->build(pretrained.model->parameters);
  if (config.train.ema_decay)
    average_.emplace(pretrained.model->parameters, *config.train.ema_decay);
  const auto options = at::device(device);
  bad_steps_ = at::zeros({}, options.dtype(at::kFloat));
  if (config.precision == "fp16") {
    loss_scale_ = at::full({1}, TrainingState().loss_scale, options.dtype(at::kFloat));
    loss_scale_growth_ = at::zeros({1}, options.dtype(at::kInt));
    std::vector<float> rates;
    for (int64_t step = 0; step < std::max<int64_t>(config.train.steps, 1); ++step)
      rates.push_back(static_cast<float>(rate_of(config, step)));
    rates_ = at::tensor(rates).to(device);
  }
}

std::vector<double> TrainingSession::shares(const std::vector<Batch>& batches,
                                            StepResult& result) const {
  const bool causal = pretrained_.config->traits().task == "clm";
  std::vector<int64_t> weights;
  for (const Batch& batch : batches) {
    const int64_t labels = batch.label_count(causal);
    weights.push_back(config_.train.loss_mean == "tokens" ? labels : std::min<int64_t>(labels, 1));
    result.weight += weights.back();
  }
  std::vector<double> shares;
  for (const int64_t weight : weights)
    shares.push_back(static_cast<double>(weight) /
                     static_cast<double>(std::max<int64_t>(result.weight, 1)));
  return shares;
}

at::Tensor TrainingSession::forward_backward(const Batch& batch, int64_t first_sample, double share,
                                             double penalty_share) {
  ForwardContext context{penalties_.active() ? Taps({&penalties_}) : Taps(),
                         DropoutStream(static_cast<uint64_t>(config_.train.seed),
                                       static_cast<uint64_t>(steps_done_), first_sample)};
  penalties_.begin(batch.attention_mask);
  at::Tensor loss;
  {
    const Autocast autocast(config_.precision, device_);
    loss = pretrained_.model->forward(batch, context).loss;
  }
  at::Tensor scale = at::full_like(loss, share);
  if (loss_scale_.defined()) scale.mul_(loss_scale_.squeeze());
  const at::Tensor total =
      penalties_.active() ? loss + penalty_share / share * penalties_.take() : loss;
  total.backward(scale);
  return loss.detach() * share;
}

StepResult TrainingSession::step(const std::function<Batch()>& next) {
  StepResult result;
  const int64_t passes = config_.train.gradient_accumulation_steps;
  std::vector<Batch> batches;
  for (int64_t i = 0; i < passes; ++i) {
    stop_if_signalled();
    batches.push_back(next());
  }
  const std::vector<double> shares = this->shares(batches, result);
  const auto counted = std::count_if(shares.begin(), shares.end(), [](double x) { return x > 0; });
  int64_t first_sample = 0;
  for (size_t i = 0; i < batches.size(); first_sample += batches[i++].size()) {
    if (shares[i] == 0) continue;
    stop_if_signalled();  // no weight has changed in this step
    const at::Tensor loss = forward_backward(batches[i].to(device_), first_sample, shares[i],
                                             1 / static_cast<double>(counted));
    result.loss = result.loss.defined() ? result.loss + loss : loss;
  }
  at::NoGradGuard no_grad;
  result.learning_rate = learning_rate();
  if (counted > 0) {
    update_weights(result, batches);
  } else {
    result.loss = at::full({}, NAN, at::device(device_).dtype(at::kFloat));
    result.gradient_norm = at::zeros_like(result.loss);
  }
  ++steps_done_;
  return result;
}

void TrainingSession::update_weights(StepResult& result, const std::vector<Batch>& batches) {
  const at::Tensor scale = loss_scale_.defined() ? loss_scale_.squeeze() : at::Tensor();
  result.gradient_norm = optimizer_->gradient_norm(scale);
  const double limit = config_.train.max_grad_norm.value_or(1);
  at::Tensor factor =
      limit > 0 ? at::clamp_max(limit / (result.gradient_norm + 1e-6), 1) : at::Tensor();
  if (scale.defined()) factor = factor.defined() ? factor / scale : 1 / scale;
  const at::Tensor skip = find_overflow(result, batches);
  optimizer_->step(result.learning_rate, factor, skip);
  optimizer_->zero_gradients();
  if (average_) average_->update();
  if (scale.defined()) update_loss_scale(skip);
}

at::Tensor TrainingSession::learning_rate() const {
  if (!rates_.defined())
    return at::scalar_tensor(rate_of(config_, steps_done_), at::dtype(at::kDouble));
  const at::Tensor position = optimizer_->steps_taken().to(at::kLong);
  return rates_.index_select(0, position.clamp_max(rates_.size(0) - 1).unsqueeze(0)).squeeze(0);
}

at::Tensor TrainingSession::find_overflow(const StepResult& result,
                                          const std::vector<Batch>& batches) {
  const auto non_finite = [](const at::Tensor& x) { return at::logical_not(at::isfinite(x)); };
  const at::Tensor skip = non_finite(result.gradient_norm + result.loss);
  at::Tensor bad = skip;
  if (loss_scale_.defined())
    bad = at::where(loss_scale_.squeeze() > kLeastLossScale, non_finite(result.loss), skip);
  bad_steps_ += bad;
  if (device_.is_cpu() && bad.item<bool>()) {
    for (const Batch& batch : batches) check_finite_pixels(batch, concat("step ", steps_done_ + 1));
    const double loss = result.loss.item<double>();
    const bool of_gradient = std::isfinite(loss);
    fail("the ", of_gradient ? "gradient" : "loss", " of step ", steps_done_ + 1, " is not finite",
         of_gradient ? concat(" (the loss is ", loss, ")") : "", advice());
  }
  return skip.to(at::kFloat);
}

void TrainingSession::update_loss_scale(const at::Tensor& overflow) {
  at::Tensor found = overflow.reshape({1});
  at::_amp_update_scale_(loss_scale_, loss_scale_growth_, found, /*growth=*/2, /*backoff=*/0.5,
                         /*interval=*/2000);
  loss_scale_.clamp_min_(kLeastLossScale);
}

void TrainingSession::check_finite() const {
  const auto bad = bad_steps_.item<int64_t>();
  check(bad == 0, bad, " of the last steps up to ", steps_done_,
        " had a non-finite loss or gradient (their updates were left out)", advice());
}

std::string TrainingSession::advice() const {
  if (!loss_scale_.defined()) return ": the rate may be too high, or the data broken";
  return concat(" at loss scale ", loss_scale_.item<double>(),
                ": the rate may be too high, the data broken, or fp16 too narrow: try a lower "
                "optimizer.learning_rate, or precision bf16");
}

void TrainingSession::swap_average() {
  if (average_) average_->swap();
}

TrainingState TrainingSession::state() const {
  TrainingState state;
  state.step = steps_done_;
  state.tensors = optimizer_->state();
  if (average_)
    for (auto& weight : average_->state()) state.tensors.push_back(std::move(weight));
  if (loss_scale_.defined()) {
    state.loss_scale = loss_scale_.item<double>();
    state.loss_scale_growth = loss_scale_growth_.item<int64_t>();
  }
  return state;
}

void TrainingSession::resume(const TrainingState& state) {
  steps_done_ = state.step;
  swap_average();
  if (!loss_scale_.defined()) return;
  loss_scale_.fill_(state.loss_scale);
  loss_scale_growth_.fill_(state.loss_scale_growth);
}

}  // namespace quench
