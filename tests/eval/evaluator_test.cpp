#include "eval/evaluator.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <ATen/record_function.h>
#include <gtest/gtest.h>

#include <cmath>

#include "models/vit.h"
#include "tests/io/temporary_folder.h"
#include "tests/models/tiny_source.h"
#include "tests/support/golden.h"

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

// Counts the forward passes.
class Passes : public TapListener {
 public:
  bool wants(const std::string& tap) const override { return tap == "embeddings.sum"; }
  at::Tensor activation(const std::string&, const at::Tensor& x) override {
    ++count;
    return x;
  }
  int count = 0;
};

EvaluationOptions options_of(int64_t batch_size) {
  EvaluationOptions options;
  options.batch_size = batch_size;
  options.device = testing::device();
  options.label = "";
  return options;
}

Pretrained bert_on_device() {
  Pretrained model = tiny_bert();
  model.model->parameters.to(testing::device(), at::kFloat);
  return model;
}

// Its classes from the likeliest to the least likely: 7, 6, ..., 0.
Pretrained descending_vit() {
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
  model.model->parameters.to(testing::device(), at::kFloat);
  for (auto& [name, value] : model.model->parameters.named_values()) {
    if (name == "classifier.weight") value.zero_();
    if (name == "classifier.bias") value.copy_(at::arange(8));
  }
  return model;
}

TEST(Evaluate, CountsTheFirstAndTheFirstFiveClasses) {
  // -100: a picture that could not be read. Nothing counts in the third batch; the last has one.
  const Labels source(at::tensor({7, 6, -100, 3, -100, -100, 2, -100, 7}, at::kLong));
  const Evaluation result = evaluate(descending_vit(), source, options_of(2));
  EXPECT_DOUBLE_EQ(*result.accuracy, 2. / 5);
  EXPECT_DOUBLE_EQ(*result.top5_accuracy, 4. / 5);
  EXPECT_EQ(result.samples, 5);
  const at::Tensor log_p = at::log_softmax(at::arange(8, at::kDouble), 0);
  EXPECT_NEAR(result.loss, -(2 * log_p[7] + log_p[6] + log_p[3] + log_p[2]).item<double>() / 5,
              1e-6);
  EXPECT_DOUBLE_EQ(headline(result.to_json()), 40);
}

TEST(Evaluate, MakesItsBatchesAheadAndInOrder) {
  using Samples = std::vector<std::vector<int64_t>>;
  const Pretrained model = bert_on_device();
  EvaluationOptions options = options_of(3);
  const auto asked = [&](int64_t expected) {
    const TinySource source(7);
    EXPECT_EQ(evaluate(model, source, options).samples, expected);
    Samples samples;
    for (const TinySource::Request& request : source.requests()) {
      samples.push_back(request.samples);
      EXPECT_EQ(request.positions, request.samples);
      EXPECT_EQ(request.seed, 1000u);
      EXPECT_EQ(request.step, 0);
      EXPECT_FALSE(request.training);
      EXPECT_NE(request.thread, std::this_thread::get_id());
    }
    return samples;
  };
  EXPECT_EQ(asked(7), (Samples{{0, 1, 2}, {3, 4, 5}, {6}}));
  options.max_batches = 2;
  EXPECT_EQ(asked(6), (Samples{{0, 1, 2}, {3, 4, 5}}));
}

TEST(Evaluate, AnErrorComesAfterTheBatchesBeforeIt) {
  Passes passes;
  EXPECT_EQ(
      error_of([&] { evaluate(bert_on_device(), TinySource(9, 5), options_of(2), {&passes}); }),
      "cannot read sample 5");
  EXPECT_EQ(passes.count, 2);
}

// Sequences with 0, 1, 2, ... labels.
class UnevenSource : public BatchSource {
 public:
  int64_t samples() const override { return 7; }
  Batch batch(const BatchRequest& request) const override {
    const Batch all = tiny_batch(0, samples());
    const auto n = static_cast<int64_t>(request.samples.size());
    Batch batch;
    batch.input_ids = all.input_ids.narrow(0, request.samples[0], n);
    batch.labels = batch.input_ids.clone();
    for (int64_t i = 0; i < n; ++i)
      batch.labels[i].slice(0, 8 - request.samples[0] - i).fill_(-100);
    batch.label_positions = (batch.labels.flatten() != -100).nonzero().squeeze(1);
    return batch;
  }
};

TEST(Evaluate, TheLossIsTheMeanOverAllLabelsWhateverTheBatch) {
  const Pretrained model = bert_on_device();
  const auto loss = [&](const Batch& batch) {
    const at::NoGradGuard no_grad;
    ForwardContext context;
    return model.model->forward(batch.to(testing::device()), context).loss.item<double>();
  };
  const UnevenSource source;
  const Batch all = batch_in_order(source, 0, 7, 0);
  const int64_t labels = all.label_count(/*causal=*/false);
  for (const int64_t size : {1, 2, 3, 7, 100}) {
    EvaluationOptions options = options_of(size);
    options.outliers = false;
    const Evaluation result = evaluate(model, source, options);
    EXPECT_NEAR(result.loss, loss(all), 1e-6 * testing::device_factor()) << size;
    EXPECT_EQ(result.tokens, labels);
    double sum = 0;  // as the paper's code: by sequences, batch for batch
    int64_t sequences = 0;
    for (int64_t first = 0; first < 7; first += size) {
      const Batch batch = batch_in_order(source, first, std::min<int64_t>(size, 7 - first), 0);
      if (batch.label_count(false) == 0) continue;
      sum += loss(batch) * static_cast<double>(batch.size());
      sequences += batch.size();
    }
    EXPECT_DOUBLE_EQ(result.reference_loss, sum / static_cast<double>(sequences)) << size;
    const Json json = result.to_json();
    EXPECT_EQ(json.at("reference").at("loss"), result.reference_loss);
    EXPECT_EQ(json.at("reference").at("perplexity"), std::exp(result.reference_loss));
  }
}

// A picture with NaN is the data's fault, and no weight's.
TEST(Evaluate, APictureThatIsNotFiniteIsNamed) {
  class Broken : public Labels {
   public:
    Broken() : Labels(at::zeros({5}, at::kLong)) {}
    Batch batch(const BatchRequest& request) const override {
      Batch batch = Labels::batch(request);
      for (size_t i = 0; i < request.samples.size(); ++i)
        if (request.samples[i] == 3) batch.pixel_values[static_cast<int64_t>(i)][0][0][0] = NAN;
      return batch;
    }
  };
  EXPECT_EQ(error_of([&] { evaluate(descending_vit(), Broken(), options_of(2)); }),
            "the data are broken: the pixel_values of sample 1 of batch 2 of the evaluation's 5 "
            "samples are not finite");
}

TEST(Evaluate, StatisticsChangeNothingElse) {
  const Pretrained model = bert_on_device();
  EvaluationOptions options = options_of(3);
  Json with = evaluate(model, TinySource(7), options).to_json();
  options.outliers = false;
  const Json without = evaluate(model, TinySource(7), options).to_json();
  EXPECT_TRUE(with.contains("outliers"));
  EXPECT_FALSE(without.contains("outliers"));
  with.erase("outliers");
  EXPECT_EQ(with.size(), without.size());
  for (const auto& [key, value] : with.items()) {
    if (!value.is_number()) continue;
    const double expected = value.get<double>();
    EXPECT_NEAR(without.at(key).get<double>(), expected, 1e-6 * testing::device_factor() * expected)
        << key;
  }
}

TEST(Evaluate, ALossThatIsNotANumberIsNotFinite) {
  const Pretrained model = bert_on_device();
  for (auto& [name, value] : model.model->parameters.named_values())
    if (name == "cls.predictions.bias") value.fill_(NAN);
  for (const bool outliers : {true, false}) {
    EvaluationOptions options = options_of(3);
    options.outliers = outliers;
    const Json result = evaluate(model, TinySource(7), options).to_json();
    EXPECT_NE(error_of([&] { check_finite(result); }).find("not finite"), std::string::npos);
  }
}

// Numbers that this thread reads from tensors in an evaluation of so many batches.
int64_t numbers_read(const Pretrained& model, int64_t batches) {
  thread_local int64_t read;
  read = 0;
  const auto count = [](const at::RecordFunction& f) -> std::unique_ptr<at::ObserverContext> {
    if (std::string_view(f.name()) == "aten::_local_scalar_dense") ++read;
    return nullptr;
  };
  const auto handle = at::addThreadLocalCallback(
      at::RecordFunctionCallback(count).scopes({at::RecordScope::FUNCTION}));
  EvaluationOptions options = options_of(2);
  options.outliers = false;
  evaluate(model, Labels(at::zeros({2 * batches}, at::kLong)), options);
  at::removeCallback(handle);
  return read;
}

TEST(Evaluate, ABatchReadsNothingButHowManyLabelsItHas) {
  const Pretrained model = descending_vit();
  EXPECT_LE(numbers_read(model, 9) - numbers_read(model, 4), 5);
  EXPECT_GE(numbers_read(model, 4), 3);
}

TEST(Evaluate, TheHeadlineOfAnOverflowIsInfinite) {
  EXPECT_EQ(headline({{"loss", 800.0}, {"perplexity", nullptr}}), INFINITY);
  EXPECT_EQ(headline({{"loss", 1.0}, {"perplexity", 2.5}}), 2.5);
}

}  // namespace
}  // namespace quench
