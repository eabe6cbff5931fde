#include "eval/evaluator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <gtest/gtest.h>

#include <cmath>

#include "models/vit.h"

namespace quench {
namespace {

// Images that all look the same to the model below.
class Labels : public BatchSource {
 public:
  explicit Labels(const at::Tensor& labels) : labels_(labels) {}
  int64_t samples() const override { return labels_.size(0); }
  Batch batch(const BatchRequest& request) const override {
    const auto n = static_cast<int64_t>(request.samples.size());
    Batch batch;
    batch.pixel_values = at::zeros({n, 3, 4, 4});
    batch.labels = labels_.narrow(0, request.samples[0], n);
    return batch;
  }

 private:
  at::Tensor labels_;
};

TEST(Evaluate, CountsTheFirstAndTheFirstFiveClasses) {
  const auto config = std::make_shared<VitConfig>();
  config->num_labels = 8;
  config->hidden_size = 4;
  config->num_hidden_layers = 1;
  config->num_attention_heads = 1;
  config->intermediate_size = 4;
  config->image_size = config->patch_size = 4;
  Pretrained model;
  model.config = config;
  model.model = config->build({}, 2);
  model.model->parameters.initialize(1);
  model.model->parameters.to(at::kCPU, at::kFloat);
  // Classes from the likeliest to the least likely: 7, 6, ..., 0.
  for (auto& [name, value] : model.model->parameters.named_values()) {
    if (name == "classifier.weight") value.zero_();
    if (name == "classifier.bias") value.copy_(at::arange(8));
  }
  EvaluationOptions options;
  options.batch_size = 2;
  options.label = "";
  // -100: a picture that could not be read. Nothing counts in the third batch; the last has one.
  const Labels source(at::tensor({7, 6, -100, 3, -100, -100, 2, -100, 7}, at::kLong));
  const Evaluation result = evaluate(model, source, options);
  EXPECT_DOUBLE_EQ(*result.accuracy, 2. / 5);
  EXPECT_DOUBLE_EQ(*result.top5_accuracy, 4. / 5);
  EXPECT_EQ(result.samples, 5);
  const at::Tensor log_p = at::log_softmax(at::arange(8, at::kDouble), 0);
  EXPECT_NEAR(result.loss, -(2 * log_p[7] + log_p[6] + log_p[3] + log_p[2]).item<double>() / 5,
              1e-6);
  EXPECT_DOUBLE_EQ(headline(result.to_json()), 40);
}

TEST(Evaluate, TheHeadlineOfAnOverflowIsInfinite) {
  EXPECT_EQ(headline({{"loss", 800.0}, {"perplexity", nullptr}}), INFINITY);
  EXPECT_EQ(headline({{"loss", 1.0}, {"perplexity", 2.5}}), 2.5);
}

}  // namespace
}  // namespace quench
