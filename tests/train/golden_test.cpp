// Whole trainings of the paper's scripts: losses, rates, gradient norms, parameter groups, final
// weights.
#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "io/safetensors.h"
#include "tests/support/golden.h"
#include "train/session.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

class GoldenTraining : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const fs::path folder = testing::golden_folder() / "train";
    facts_ = testing::read_json(folder / (GetParam() + ".json"));
    tensors_ = read_safetensors(folder / (GetParam() + ".safetensors"));
  }

  // The value behind a flag of the reference's command line.
  double flag(const std::string& name, double otherwise = 0) const {
    const auto& command = facts_.at("command");
    for (size_t i = 0; i + 1 < command.size(); ++i)
      if (command[i] == name) return std::stod(command[i + 1].get<std::string>());
    return otherwise;
  }
  bool has_flag(const std::string& name) const {
    const auto& command = facts_.at("command");
    return std::find(command.begin(), command.end(), Json(name)) != command.end();
  }

  std::map<std::string, at::Tensor> initial_weights() const {
    std::map<std::string, at::Tensor> weights;
    for (const auto& [name, tensor] : tensors_)
      if (name.starts_with("init.")) weights[name.substr(5)] = tensor;
    if (!weights.empty()) return weights;
    const std::string variant =
        GetParam().find("gate_mlp") == std::string::npos ? "vanilla" : "clip_alpha_gate_mlp";
    for (auto& [name, value] :
         testing::calm_model("bert_s", variant).model->parameters.named_values())
      weights[name] = value.clone();
    return weights;
  }

  RunConfig config() const {
    RunConfig config;
    const bool opt = facts_.at("config").at("model_type") == "opt";
    const int64_t passes = facts_.at("gradient_accumulation_steps");
    const auto adamw = std::make_shared<AdamWConfig>();
    adamw->learning_rate = flag("--learning_rate");
    adamw->weight_decay = flag("--weight_decay");
    if (opt) adamw->options.betas = {0.9, 0.95};
    adamw->decay_norm_weights = has_flag("--wd_LN_gamma");
    config.optimizer = adamw;
    config.schedule.warmup_from_zero = true;
    config.schedule.warmup_steps = static_cast<int64_t>(flag("--num_warmup_steps"));
    config.schedule.final_lr_fraction = flag("--final_lr_fraction");
    config.train.steps = static_cast<int64_t>(flag("--max_train_steps"));
    config.schedule.steps = config.train.steps;
    if (!opt) {  // run_mlm stretches its schedule by the accumulation (quirk 5 of SPEC 12)
      config.schedule.warmup_steps = config.schedule.warmup_steps * passes;
      config.schedule.steps = config.train.steps * passes;
    }
    config.train.gradient_accumulation_steps = passes;
    config.train.max_grad_norm = flag("--max_grad_norm");
    config.train.loss_mean = "batches";
    return config;
  }

  Json facts_;
  std::map<std::string, at::Tensor> tensors_;
};

TEST_P(GoldenTraining, RepeatsTheReference) {
  Pretrained model =
      testing::make_model(facts_.at("config"), testing::attention_section(facts_.at("attention")),
                          64, initial_weights());
  const RunConfig config = this->config();
  TrainingSession session(config, model, testing::device());
  const double factor = testing::device_factor();
  const Batch all = testing::make_batch(tensors_, "train.");
  const int64_t batch_size = facts_.at("batch_size"),
                passes = config.train.gradient_accumulation_steps;
  const int64_t batches = all.size() / batch_size;
  int64_t next = 0;
  const auto next_batch = [&] {
    const int64_t begin = next++ % batches * batch_size;
    const auto pick = [&](const at::Tensor& x) {
      return x.defined() ? x.slice(0, begin, begin + batch_size) : x;
    };
    return Batch{pick(all.input_ids),
                 pick(all.attention_mask),
                 pick(all.token_type_ids),
                 pick(all.labels),
                 {},
                 {}};
  };
  for (int64_t step = 0; step < config.train.steps; ++step) {
    const StepResult result = session.step(next_batch);
    double loss = 0;
    for (int64_t i = 0; i < passes; ++i)
      loss +=
          facts_.at("loss_per_forward").at(static_cast<size_t>(step * passes + i)).get<double>() /
          static_cast<double>(passes);
    EXPECT_NEAR(result.loss.item<double>(), loss, factor * 1e-5 * loss) << step;
    const double rate =
        facts_.at("lr_used_per_optimizer_step").at(static_cast<size_t>(step)).get<double>();
    EXPECT_NEAR(result.learning_rate.item<double>(), rate, 1e-12) << step;
    const double norm =
        facts_.at("grad_norm_before_clipping").at(static_cast<size_t>(step)).get<double>();
    EXPECT_NEAR(result.gradient_norm.item<double>(), norm, factor * 1e-4 * norm) << step;
  }
  // AdamW divides by the gradient's own size: where that is rounding noise, steps differ by up to
  // the rate.
  double worst = 0;
  for (const auto& [name, value] : model.model->parameters.named_values()) {
    if (name.find("key.bias") != std::string::npos || name.find("k_proj.bias") != std::string::npos)
      continue;
    worst = std::max(worst, testing::max_difference(value, tensors_.at("final." + name)));
  }
  EXPECT_LT(worst, factor * 0.05 * config.optimizer->learning_rate *
                       static_cast<double>(config.train.steps));

  for (const auto& [decay, names] : session.optimizer().groups()) {
    bool found = false;
    for (const Json& group : facts_.at("groups")) {
      if (group.at("weight_decay").get<double>() != decay) continue;
      std::vector<std::string> expected = group.at("names"), ours = names;
      std::sort(expected.begin(), expected.end());
      std::sort(ours.begin(), ours.end());
      EXPECT_EQ(ours, expected);
      found = true;
    }
    EXPECT_TRUE(found) << decay;
  }
}

INSTANTIATE_TEST_SUITE_P(All, GoldenTraining, ::testing::ValuesIn(testing::golden_cases("train")),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace quench
