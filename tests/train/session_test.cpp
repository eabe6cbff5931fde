// The arithmetic of one optimizer step.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <numeric>

#include "base/error.h"
#include "config/yaml.h"
#include "tests/io/temporary_folder.h"
#include "tests/models/tiny_bert.h"
#include "tests/support/golden.h"
#include "train/session.h"

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
  config.optimizer->learning_rate = 1e-2;
  return config;
}

// Eight sequences of which sequence i has `labels[i]` labels, cut into `parts` batches.
std::vector<Batch> uneven_batches(const std::vector<int64_t>& labels, int64_t parts) {
  Batch all = tiny_batch(0, 8);
  all.labels = all.input_ids.clone();
  for (int64_t i = 0; i < 8; ++i)
    all.labels[i].slice(0, labels[static_cast<size_t>(i)]).fill_(-100);
  std::vector<Batch> batches;
  for (int64_t i = 0; i < parts; ++i) {
    const auto pick = [&](const at::Tensor& x) { return x.chunk(parts)[static_cast<size_t>(i)]; };
    Batch batch{pick(all.input_ids), {}, {}, pick(all.labels), {}, {}};
    batch.label_positions = (batch.labels.flatten() != -100).nonzero().squeeze(1);
    batches.push_back(batch);
  }
  return batches;
}

// However a step's samples are cut into passes, and with passes that have no label at all: each
// sample's masks are its own.
TEST(TrainingSession, TheLossIsTheMeanOverAllLabelsOfAStep) {
  for (const bool with_dropout : {false, true})
    for (const std::vector<int64_t>& labels : {std::vector<int64_t>{4, 4, 4, 4, 4, 4, 4, 4},
                                               {1, 4, 0, 2, 0, 3, 4, 1},
                                               {0, 0, 0, 0, 0, 0, 1, 4}}) {
      const auto step = [&](int64_t passes) {
        RunConfig cut = config();
        cut.train.gradient_accumulation_steps = passes;
        Pretrained model = with_dropout ? tiny_bert(1) : without_dropout();
        TrainingSession session(cut, model, testing::device());
        const std::vector<Batch> batches = uneven_batches(labels, passes);
        size_t next = 0;
        const StepResult result = session.step([&] { return batches[next++]; });
        EXPECT_EQ(next, batches.size());
        return result;
      };
      const StepResult whole = step(1);
      EXPECT_EQ(whole.weight, std::accumulate(labels.begin(), labels.end(), int64_t{0}));
      for (const int64_t passes : {2, 4, 8}) {
        const StepResult result = step(passes);
        EXPECT_EQ(result.weight, whole.weight);
        EXPECT_NEAR(result.loss.item<double>(), whole.loss.item<double>(), 1e-6);
        EXPECT_NEAR(result.gradient_norm.item<double>(), whole.gradient_norm.item<double>(), 1e-6);
      }
    }
}

// The mean of the passes' means, of those that have one.
TEST(TrainingSession, TheLossMayBeTheMeanOfThePasses) {
  const std::vector<int64_t> labels = {1, 4, 0, 0, 2, 3, 4, 1};
  RunConfig batches = config();
  batches.train.gradient_accumulation_steps = 4;
  batches.train.loss_mean = "batches";
  Pretrained model = without_dropout(), same = without_dropout();
  same.model->parameters.to(testing::device(), at::kFloat);
  double mean = 0;
  for (const Batch& batch : uneven_batches(labels, 4)) {
    if (batch.label_positions.numel() == 0) continue;
    ForwardContext context;
    const at::Tensor loss = same.model->forward(batch.to(testing::device()), context).loss / 3;
    loss.backward();
    mean += loss.item<double>();
  }
  double squares = 0;
  for (const auto& [name, gradient] : same.model->parameters.named_gradients())
    squares += gradient.square().sum().item<double>();
  TrainingSession session(batches, model, testing::device());
  const std::vector<Batch> parts = uneven_batches(labels, 4);
  size_t next = 0;
  const StepResult result = session.step([&] { return parts[next++]; });
  EXPECT_EQ(result.weight, 3);
  EXPECT_NEAR(result.loss.item<double>(), mean, 1e-6);
  EXPECT_NEAR(result.gradient_norm.item<double>(), std::sqrt(squares), 1e-6);
}

// average <- decay * average + (1 - decay) * weight after every step, from the first weights on.
TEST(TrainingSession, AveragesTheWeights) {
  RunConfig averaged = config();
  averaged.train.ema_decay = 0.75;
  Pretrained model = without_dropout();
  std::map<std::string, at::Tensor> expected;
  for (const auto& [name, value] : weights_of(model)) expected[name] = value.to(at::kDouble);
  TrainingSession session(averaged, model, testing::device());
  for (int i = 0; i < 3; ++i) {
    session.step([&] { return tiny_batch(i); });
    for (const auto& [name, value] : weights_of(model))
      expected[name] = 0.75 * expected[name] + 0.25 * value.to(at::kDouble);
  }
  const auto weights = weights_of(model);
  {
    const TrainingSession::Averaged now(session);
    for (const auto& [name, value] : weights_of(model))
      EXPECT_LT((value - expected[name]).abs().max().item<double>(), 2e-7)
          << name;  // three roundings of values up to 1
    EXPECT_FALSE(equal(weights, weights_of(model)));
  }
  EXPECT_TRUE(equal(weights, weights_of(model)));
}

RunConfig penalized(const std::string& penalty) {
  RunConfig penalized = config();
  config::read(config::parse(concat("{train: {penalties: [", penalty, "]}}"), {"test", 1}),
               penalized);
  penalized.train.max_grad_norm = 0;
  return penalized;
}

// The gradient of loss + penalty, of which the loss's own is subtracted, and that of the penalty.
TEST(TrainingSession, AddsThePenaltiesToTheLoss) {
  const auto gradients = [](const RunConfig& config, StepResult* result) {
    Pretrained model = without_dropout();
    TrainingSession session(config, model, testing::device());
    *result = session.step([] { return tiny_batch(0); });
    std::map<std::string, at::Tensor> gradients;  // the first moment of one step is (1 - beta) g
    for (const auto& [name, tensor] : session.optimizer().state())
      if (name.starts_with("exp_avg.")) gradients[name.substr(8)] = tensor.clone() / 0.1;
    return gradients;
  };
  StepResult plain, more;
  const auto without = gradients(penalized(""), &plain);
  for (const auto& entry : penalties().entries) {
    const RunConfig config = penalized(concat("{type: ", entry.type, ", weight: 3}"));
    const auto with = gradients(config, &more);
    EXPECT_EQ(plain.loss.item<double>(), more.loss.item<double>()) << "the loss stays the task's";

    Pretrained model = without_dropout();
    model.model->parameters.to(testing::device(), at::kFloat);
    PenaltyListener listener(config.train.penalties);
    ForwardContext context{Taps({&listener}), DropoutStream()};
    listener.begin({});
    const at::Tensor loss = model.model->forward(tiny_batch(0).to(testing::device()), context).loss;
    (0 * loss + listener.take()).backward();
    for (const auto& [name, gradient] : model.model->parameters.named_gradients()) {
      const double largest = gradient.abs().max().item<double>();
      EXPECT_LT((with.at(name) - without.at(name) - gradient).abs().max().item<double>(),
                2e-6 + 1e-5 * largest)  // rounding of sums in float32
          << entry.type << " " << name;
    }
  }
}

// A penalty is a mean over the samples of a step, however they are cut into passes.
TEST(TrainingSession, PenaltiesAreSharedByThePassesOfAStep) {
  for (const auto& entry : penalties().entries) {
    const auto norm = [&](int64_t passes) {
      RunConfig cut = penalized(concat("{type: ", entry.type, ", weight: 3}"));
      cut.train.gradient_accumulation_steps = passes;
      Pretrained model = without_dropout();
      TrainingSession session(cut, model, testing::device());
      const std::vector<Batch> batches = uneven_batches({4, 1, 4, 2, 1, 3, 4, 1}, passes);
      size_t next = 0;
      return session.step([&] { return batches[next++]; }).gradient_norm.item<double>();
    };
    const double whole = norm(1);
    for (const int64_t passes : {2, 4, 8}) EXPECT_NEAR(norm(passes), whole, 1e-5 * whole) << passes;
  }
}

// What stands behind the end of a text changes neither loss nor penalty.
TEST(TrainingSession, PenaltiesLeavePaddingOut) {
  for (const char* type : {"tweo", "kurtosis"}) {
    const auto norm = [&](int64_t padding_id) {
      Batch batch = tiny_batch(0);
      batch.attention_mask = at::arange(8).lt(6).expand({4, 8}).clone();
      batch.input_ids = batch.input_ids.clone();
      batch.input_ids.slice(1, 6).fill_(padding_id);
      batch.labels.slice(1, 6).fill_(-100);
      batch.label_positions = (batch.labels.flatten() != -100).nonzero().squeeze(1);
      const RunConfig config = penalized(concat("{type: ", type, ", weight: 3}"));
      Pretrained model = without_dropout();
      TrainingSession session(config, model, testing::device());
      return session.step([&] { return batch; }).gradient_norm.item<double>();
    };
    EXPECT_NEAR(norm(3), norm(17), 1e-5 * norm(3)) << type;  // float32 sums
  }
}

TEST(TrainingSession, ClipsTheGlobalNorm) {
  RunConfig clipped = config();
  clipped.train.max_grad_norm = 1e-3;
  Pretrained model = without_dropout();
  TrainingSession session(clipped, model, testing::device());
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
    still.optimizer->learning_rate = 1e-30;  // the weights stay
    Pretrained model = tiny_bert();
    TrainingSession session(still, model, testing::device());
    TrainingState state;
    state.step = first_step;
    session.resume(state);
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

// What the step after a weight has become NaN complains about.
std::string message_of_a_nan(const RunConfig& config) {
  Pretrained model = without_dropout();
  TrainingSession session(config, model, at::kCPU);
  session.step([] { return tiny_batch(0); });
  {
    const at::NoGradGuard no_grad;
    model.model->parameters.all().front().value.select(1, 0).fill_(NAN);
  }
  const auto before = weights_of(model);
  const std::string message = error_of([&] { session.step([] { return tiny_batch(1); }); });
  for (const auto& [name, value] : weights_of(model))
    EXPECT_TRUE(at::allclose(value, before.at(name), 0, 0, true)) << name;
  EXPECT_EQ(session.steps_done(), 1);
  return message;
}

TEST(TrainingSession, ANonFiniteLossChangesNoWeight) {
  RunConfig constant = config();
  EXPECT_EQ(message_of_a_nan(constant),
            "the loss of step 2 is not finite: the rate may be too high, or the data broken");
  constant.precision = "fp16";
  EXPECT_TRUE(
      message_of_a_nan(constant).starts_with("the loss of step 2 is not finite at loss scale "));
}

// Half precision ends at 65504.
TEST(TrainingSession, AGradientThatOverflowsLowersTheLossScale) {
  RunConfig half = config();
  half.precision = "fp16";
  Pretrained model = without_dropout();
  TrainingSession session(half, model, testing::device());
  TrainingState state;
  state.loss_scale = std::ldexp(1, 40);
  session.resume(state);
  const auto before = weights_of(model);
  session.step([] { return tiny_batch(0); });
  EXPECT_EQ(session.state().loss_scale, std::ldexp(1, 39));
  EXPECT_TRUE(equal(before, weights_of(model)));
  while (equal(before, weights_of(model)) && session.steps_done() < 40)
    session.step([] { return tiny_batch(0); });
  EXPECT_LT(session.steps_done(), 40) << "a scale without overflow is found";
  EXPECT_NO_THROW(session.check_finite());
}

TEST(TrainingSession, AStepThatFp16SkipsDoesNotAdvanceTheSchedule) {
  RunConfig half = config();
  half.precision = "fp16";
  half.schedule.shape = "linear";
  half.schedule.warmup_steps = 4;
  half.train.steps = 10;
  Pretrained model = without_dropout();
  TrainingSession session(half, model, testing::device());
  const auto rate_of_next_step = [&] {
    return session.step([] { return tiny_batch(0); }).learning_rate.item<double>();
  };
  TrainingState state = session.state();
  state.loss_scale = std::ldexp(1, 40);  // overflows
  session.resume(state);
  EXPECT_FLOAT_EQ(rate_of_next_step(), 1e-2 * 1 / 5);
  EXPECT_FLOAT_EQ(rate_of_next_step(), 1e-2 * 1 / 5) << "the first was skipped";
  state.loss_scale = 1024;
  session.resume(state);
  EXPECT_FLOAT_EQ(rate_of_next_step(), 1e-2 * 1 / 5) << "the second was skipped";
  EXPECT_FLOAT_EQ(rate_of_next_step(), 1e-2 * 2 / 5);
}

TEST(TrainingSession, AGradientThatOverflowsAtEveryLossScaleEndsTraining) {
  RunConfig half = config();
  half.precision = "fp16";
  half.train.penalties = penalized("{type: activation_norm, weight: 1e10}").train.penalties;
  Pretrained model = without_dropout();
  TrainingSession session(half, model, at::kCPU);
  const auto before = weights_of(model);
  const auto step = [&] { session.step([] { return tiny_batch(0); }); };
  for (int i = 0; i < 16; ++i) step();  // 65536 ... 2
  EXPECT_EQ(session.state().loss_scale, 1);
  EXPECT_NO_THROW(session.check_finite());
  const std::string message = error_of(step);
  EXPECT_TRUE(message.starts_with("the gradient of step 17 is not finite (the loss is "))
      << message;
  EXPECT_NE(message.find(" at loss scale 1: "), std::string::npos) << message;
  EXPECT_NE(error_of([&] { session.check_finite(); }).find("1 of the last steps"),
            std::string::npos)
      << "it is counted, which is what a GPU does";
  EXPECT_TRUE(equal(before, weights_of(model)));
}

TEST(TrainingSession, AStepWithoutLabelsLeavesTheWeightsAlone) {
  const RunConfig constant = config();
  Pretrained model = without_dropout();
  TrainingSession session(constant, model, testing::device());
  session.step([] { return tiny_batch(0); });
  const auto before = weights_of(model);
  Batch batch = tiny_batch(1);
  batch.labels = at::full_like(batch.labels, -100);
  batch.label_positions = at::empty({0}, at::kLong);
  const StepResult result = session.step([&] { return batch; });
  EXPECT_EQ(result.weight, 0);
  EXPECT_TRUE(std::isnan(result.loss.item<double>()));
  EXPECT_EQ(result.gradient_norm.item<double>(), 0);
  EXPECT_EQ(session.steps_done(), 2);
  EXPECT_TRUE(equal(before, weights_of(model)));
  EXPECT_NO_THROW(session.check_finite());
}

}  // namespace
}  // namespace quench
