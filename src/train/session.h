// One training step: forward and backward passes, clipping, loss scale, optimizer, moving average.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "batches/batch.h"
#include "models/pretrained.h"
#include "optimizers/optimizer.h"
#include "penalties/penalty.h"
#include "run/config.h"
#include "train/checkpoint.h"
#include "train/weight_average.h"

namespace quench {

// What one optimizer step did. On a GPU reading the tensors waits for it: do so at log steps only.
struct StepResult {
  // Mean over the labels of the step's forward passes; with `loss_mean: batches` over the passes.
  // NaN where there is no label at all.
  at::Tensor loss;
  int64_t weight = 0;        // how many labels, or passes with a label, that is
  at::Tensor gradient_norm;  // before clipping
  at::Tensor learning_rate;
};

// One model, its optimizer and the arithmetic of a step, without files or logs.
class TrainingSession {
 public:
  // Moves the model to `device`.
  TrainingSession(const RunConfig& config, Pretrained& pretrained, at::Device device);

  // One optimizer step over `config.train.gradient_accumulation_steps` batches from `next`, which
  // lie on the CPU. A batch without a label counts for nothing, and if all are such, the weights
  // stay as they are. No weight changes on a non-finite loss or gradient: on a CPU throws Error, on
  // a GPU leaves that to check_finite(). With fp16 a non-finite gradient under a finite loss only
  // lowers the loss scale, as long as that can be lowered. Throws Interrupted (base/signals.h)
  // before it has changed anything that a checkpoint holds.
  StepResult step(const std::function<Batch()>& next);

  // Throws Error if a step so far ought to have; waits for the device.
  void check_finite() const;

  // While it lives, the model holds the moving average of its weights, if the config asks for one.
  class Averaged {
   public:
    explicit Averaged(TrainingSession& session) : session_(session) { session_.swap_average(); }
    ~Averaged() { session_.swap_average(); }
    Averaged(const Averaged&) = delete;
    Averaged& operator=(const Averaged&) = delete;

   private:
    TrainingSession& session_;
  };

  // To save beside the averaged model, and to load into.
  TrainingState state() const;
  // Goes on from `state`; the model holds what was saved beside it.
  void resume(const TrainingState& state);
  Optimizer& optimizer() { return *optimizer_; }
  int64_t steps_done() const { return steps_done_; }
  at::Device device() const { return device_; }

 private:
  // The weight of each batch's loss in that of the step, which sum to 1, or are all 0 where there
  // is no label at all.
  std::vector<double> shares(const std::vector<Batch>& batches, StepResult& result) const;
  at::Tensor forward_backward(const Batch& batch, int64_t first_sample, double share,
                              double penalty_share);
  void update_weights(StepResult& result, const std::vector<Batch>& batches);
  void swap_average();
  // 1 (float32, 0-dim) where the step must leave the weights alone. Throws or counts in bad_steps_
  // where no lower loss scale can help.
  at::Tensor find_overflow(const StepResult& result, const std::vector<Batch>& batches);
  std::string advice() const;  // on a non-finite step
  void update_loss_scale(const at::Tensor& overflow);
  // Of the coming step. Steps that fp16 skipped do not advance the schedule (SPEC 4.1), and how
  // many these are only the device knows.
  at::Tensor learning_rate() const;

  const RunConfig& config_;
  Pretrained& pretrained_;
  at::Device device_;
  std::unique_ptr<Optimizer> optimizer_;
  std::optional<WeightAverage> average_;
  PenaltyListener penalties_;
  int64_t steps_done_ = 0;
  at::Tensor loss_scale_, loss_scale_growth_;  // fp16 only: float32 and int32 [1]
  at::Tensor rates_;      // fp16 only: the schedule, float32 [steps], on the device
  at::Tensor bad_steps_;  // on the device: non-finite steps, to be checked
};

}  // namespace quench
