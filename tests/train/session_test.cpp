// The arithmetic of one optimizer step.
#include <ATen/ATen.h>

#include <cmath>

#include "tests/io/temporary_folder.h"
#include "tests/models/tiny_bert.h"
#include "train/trainer.h"

namespace quench {
namespace {

Pretrained without_dropout() {
  const auto config = tiny_bert_config();
  config->hidden_dropout_prob = config->attention_probs_dropout_prob = 0;
  return tiny_bert(1, config);
}

RunConfig config() {
  RunConfig config;
  config.schedule.shape = "constant";
  config.optimizer.learning_rate = 1e-2;
  return config;
}

TEST(TrainingSession, AccumulatesTheMeanOfItsPasses) {
  const Batch all = tiny_batch(0, 8);
  const auto half = [&](int64_t i) {
    const auto pick = [&](const at::Tensor& x) { return x.slice(0, 4 * i, 4 * i + 4); };
    Batch batch{pick(all.input_ids), {}, {}, pick(all.labels), {}, {}};
    batch.label_positions = (batch.labels.flatten() != -100).nonzero().squeeze(1);
    return batch;
  };
  RunConfig one = config(), two = config();
  two.train.gradient_accumulation_steps = 2;
  Pretrained a = without_dropout(), b = without_dropout();
  TrainingSession whole(one, a, at::kCPU), parts(two, b, at::kCPU);
  const StepResult expected = whole.step([&] { return all; });
  int64_t next = 0;
  const StepResult result = parts.step([&] { return half(next++); });
  EXPECT_EQ(next, 2);
  EXPECT_NEAR(result.loss.item<double>(), expected.loss.item<double>(), 1e-6);
  EXPECT_NEAR(result.gradient_norm.item<double>(), expected.gradient_norm.item<double>(), 1e-6);
}

TEST(TrainingSession, ClipsTheGlobalNorm) {
  RunConfig clipped = config();
  clipped.train.max_grad_norm = 1e-3;
  Pretrained model = without_dropout();
  TrainingSession session(clipped, model, at::kCPU);
  EXPECT_GT(session.step([] { return tiny_batch(0); }).gradient_norm.item<double>(), 0.1)
      << "before clipping";
  double squares = 0;  // the first moment of one step is (1 - beta) g
  for (const auto& [name, tensor] : session.optimizer().state())
    if (name.starts_with("exp_avg.")) squares += (tensor / 0.1).pow(2).sum().item<double>();
  EXPECT_NEAR(std::sqrt(squares), 1e-3, 1e-5);
}

TEST(TrainingSession, DropoutIsAFunctionOfTheStep) {
  const auto losses = [](int64_t first_step) {
    RunConfig still = config();
    still.optimizer.learning_rate = 1e-30;  // the weights stay
    Pretrained model = tiny_bert();
    TrainingSession session(still, model, at::kCPU);
    session.resume({first_step, 0, 0});
    std::vector<double> losses;
    for (int i = 0; i < 3; ++i)
      losses.push_back(session.step([] { return tiny_batch(0); }).loss.item<double>());
    return losses;
  };
  const std::vector<double> from_0 = losses(0), from_1 = losses(1);
  EXPECT_NE(from_0[0], from_0[1]);
  EXPECT_EQ(from_0[1], from_1[0]);
  EXPECT_EQ(from_0[2], from_1[1]);
}

TEST(TrainingSession, ANonFiniteLossChangesNoWeight) {
  const RunConfig constant = config();
  Pretrained model = without_dropout();
  TrainingSession session(constant, model, at::kCPU);
  session.step([] { return tiny_batch(0); });
  {
    const at::NoGradGuard no_grad;
    model.model->parameters.all().front().value.select(1, 0).fill_(NAN);
  }
  const auto before = weights_of(model);
  const std::string message = error_of([&] { session.step([] { return tiny_batch(1); }); });
  EXPECT_EQ(message,
            "the loss of step 2 is not finite: the rate may be too high, or the data broken");
  for (const auto& [name, value] : weights_of(model))
    EXPECT_TRUE(at::allclose(value, before.at(name), 0, 0, true)) << name;
  EXPECT_EQ(session.steps_done(), 1);
}

TEST(TrainingSession, ABatchWithoutLabelsIsHarmless) {
  const RunConfig constant = config();
  Pretrained model = without_dropout();
  TrainingSession session(constant, model, at::kCPU);
  Batch batch = tiny_batch(0);
  batch.labels = at::full_like(batch.labels, -100);
  batch.label_positions = at::empty({0}, at::kLong);
  const StepResult result = session.step([&] { return batch; });
  EXPECT_EQ(result.loss.item<double>(), 0);
  EXPECT_EQ(result.gradient_norm.item<double>(), 0);
}

}  // namespace
}  // namespace quench
