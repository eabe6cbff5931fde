// Every cure in every model: 20 steps of training, saved and loaded.
#include <ATen/ATen.h>

#include "config/yaml.h"
#include "io/atomic_file.h"
#include "models/opt.h"
#include "models/vit.h"
#include "tests/io/temporary_folder.h"
#include "tests/models/tiny_bert.h"
#include "tests/support/capture.h"
#include "tests/support/golden.h"
#include "train/session.h"

namespace quench {
namespace {

std::shared_ptr<ModelConfig> tiny_model(const std::string& type) {
  if (type == "bert") return tiny_bert_config();
  if (type == "opt") {
    const auto config = std::make_shared<OptConfig>();
    config->vocab_size = 32;
    config->hidden_size = 8;
    config->num_hidden_layers = 2;
    config->num_attention_heads = 2;
    config->ffn_dim = 16;
    config->max_position_embeddings = 8;
    return config;
  }
  const auto config = std::make_shared<VitConfig>();
  config->num_labels = 3;
  config->hidden_size = 8;
  config->num_hidden_layers = 2;
  config->num_attention_heads = 2;
  config->intermediate_size = 16;
  config->image_size = 8;
  config->patch_size = 4;
  return config;
}

Batch batch_for(const std::string& type) {
  if (type != "vit") return tiny_batch(3);
  Batch batch;
  batch.pixel_values = at::sin(at::arange(4 * 3 * 8 * 8, at::kFloat)).view({4, 3, 8, 8});
  batch.labels = at::arange(4, at::kLong).remainder(3);
  return batch;
}

struct Case {
  std::string model, cure;    // a config
  std::string blocks = "{}";  // its section `model`
};

class Cure : public TemporaryFolder, public ::testing::WithParamInterface<Case> {};

TEST_P(Cure, TrainsAndComesBackFromTheDisk) {
  RunConfig config;
  config.train.steps = 20;
  config.optimizer->learning_rate = 1e-2;
  config.schedule.shape = "constant";
  config::read(config::parse(GetParam().cure, {"test", 1}), config);
  Pretrained trained;
  trained.config = tiny_model(GetParam().model);
  config::read_with(config::parse(GetParam().blocks, {"test", 1}),
                    [&](config::Fields& fields) { trained.config->describe(fields); });
  trained.attention = config.attention;
  trained.max_seq_length = trained.config->max_positions();
  trained.model = trained.config->build(trained.attention, trained.max_seq_length);
  trained.model->parameters.initialize(1);
  const auto before = weights_of(trained);
  TrainingSession session(config, trained, testing::device());
  const Batch batch = batch_for(GetParam().model);
  double first = 0, last = 0;
  for (int step = 0; step < 20; ++step) {
    last = session.step([&] { return batch; }).loss.item<double>();
    if (step == 0) first = last;
  }
  // In so few steps SGD finds little more than how often each class comes.
  EXPECT_LT(last, (config.optimizer->type() == "sgd" ? 0.95 : 0.9) * first);
  for (const auto& [name, value] : weights_of(trained))
    EXPECT_FALSE(name.ends_with(".sink") && at::equal(value, before.at(name))) << name;

  save_pretrained(folder_, trained);
  const Pretrained loaded = load_pretrained(folder_.string());
  EXPECT_EQ(config::write(loaded.attention), config::write(trained.attention));
  EXPECT_EQ(loaded.config->hugging_face(), trained.config->hugging_face());
  EXPECT_TRUE(equal(weights_of(loaded), weights_of(trained)));
  if (GetParam().model == "vit") return;
  // Shorter than what the model was built for, and padded.
  Batch shorter;
  shorter.input_ids = batch.input_ids.narrow(1, 0, 5);
  shorter.labels = batch.labels.narrow(1, 0, 5);
  shorter.label_positions = (shorter.labels.flatten() != -100).nonzero().squeeze(1);
  shorter.attention_mask = at::arange(5).lt(4).expand({4, 5});
  ForwardContext context{Taps(), DropoutStream()};
  loaded.model->parameters.to(testing::device(), at::kFloat);
  EXPECT_TRUE(std::isfinite(
      loaded.model->forward(shorter.to(testing::device()), context).loss.item<double>()));
}

// Two layers, of six linear layers each.
TEST(Cures, PenaltiesSeeEveryLayerOfEveryModel) {
  for (const char* type : {"bert", "opt", "vit"}) {
    const auto config = tiny_model(type);
    const auto model = config->build({}, config->max_positions());
    model->parameters.initialize(1);
    testing::Capture capture;
    ForwardContext context{Taps({&capture}), DropoutStream()};
    model->forward(batch_for(type), context);
    for (const auto& entry : penalties().entries) {
      const auto penalty = entry.make();
      const auto seen = std::ranges::count_if(
          capture.seen, [&](const auto& tap) { return penalty->wants(tap.first); });
      EXPECT_EQ(seen, config->layers() * (entry.type == "kurtosis" ? 6 : 1)) << type << entry.type;
    }
    const at::Tensor &before = capture.seen.at("layers.0.ffn.pre_activation"),
                     &after = capture.seen.at("layers.0.ffn.intermediate");
    EXPECT_TRUE(at::equal(activate(type == std::string("opt") ? "relu" : "gelu", before), after));
  }
}

// A weight on the share of keys that are kept draws the thresholds together.
TEST(Threshold, ADensityWeightDropsMoreKeys) {
  const auto thresholds = [](const char* weight) {
    RunConfig config;
    config.optimizer->learning_rate = 1e-2;
    config.schedule.shape = "constant";
    AttentionConfig attention;
    config::read(config::parse(concat("{softmax: {type: threshold, density_weight: ", weight, "}}"),
                               {"test", 1}),
                 attention);
    Pretrained model = tiny_bert(1, tiny_bert_config(), attention);
    TrainingSession session(config, model, testing::device());
    for (int step = 0; step < 10; ++step) session.step([] { return tiny_batch(3); });
    for (const auto& [name, value] : weights_of(model))
      if (name.ends_with(".threshold")) return value;
    return at::Tensor();
  };
  const at::Tensor free = thresholds("0"), pressed = thresholds("5");
  EXPECT_TRUE((pressed < free - 0.05).all().item<bool>()) << free << pressed;
}

std::vector<Case> cases() {
  std::vector<std::string> cures = {"{attention: {query_key_norm: rms}}",
                                    "{attention: {query_key_norm: layer}}",
                                    "{attention: {scores_cap: 5}}"};
  for (const auto& entry : normalizers().entries)
    // Of five patches an alpha of 4 would leave nothing at the start.
    cures.push_back(concat("{attention: {softmax: {type: ", entry.type,
                           entry.type == "normalized_clipped" ? ", alpha: 1}}}" : "}}}"));
  for (const auto& entry : gates().entries)
    cures.push_back(concat("{attention: {gate: {type: ", entry.type, "}}}"));
  for (const auto& [type, rate] : {std::pair{"adamw", 0.01}, {"muon", 0.03}, {"sgd", 0.3}})
    cures.push_back(concat("{optimizer: {type: ", type, ", learning_rate: ", rate, "}}"));
  for (const auto& entry : penalties().entries)
    cures.push_back(concat("{train: {penalties: [{type: ", entry.type, "}]}}"));
  std::vector<Case> all;
  for (const char* model : {"bert", "opt", "vit"})
    for (const std::string& cure : cures) all.push_back({model, cure});
  for (const char* model : {"bert", "opt", "vit"})
    for (const char* section : {"{norm: rms}", "{norm: rms_scalar}", "{sandwich_norm: true}",
                                "{norm: rms, sandwich_norm: true}"})
      all.push_back({model, "{}", section});
  for (const char* model : {"bert", "opt"})
    all.push_back({model, "{}", "{embedding_projection: true}"});
  all.push_back({"vit", "{}", "{register_tokens: 4}"});
  return all;
}

std::string name_of(const ::testing::TestParamInfo<Case>& info) {
  std::string name = info.param.model;
  for (const char c : info.param.cure + info.param.blocks)
    if (std::isalnum(c) || c == '_') name += c;
  return name;
}

INSTANTIATE_TEST_SUITE_P(All, Cure, ::testing::ValuesIn(cases()), name_of);

}  // namespace
}  // namespace quench
