// Every config that is shipped reads, and describes a model that can be built.
#include <gtest/gtest.h>

#include <filesystem>

#include "base/error.h"
#include "run/config.h"
#include "sweep/sweep.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

std::vector<fs::path> yaml_files(const std::vector<std::string>& folders) {
  std::vector<fs::path> files;
  for (const std::string& folder : folders)
    for (const auto& entry :
         fs::directory_iterator(fs::path(QUENCH_TESTS_DIR) / "../configs" / folder))
      files.push_back(entry.path());
  return files;
}

// Their data need not be here: only the config is read.
RunConfig read_config(const fs::path& file) {
  RunConfig config;
  config::read(config::load(file.string()), config);
  return config;
}

TEST(ShippedConfigs, DescribeModelsThatCanBeBuilt) {
  const std::vector<fs::path> files = yaml_files({"bert", "opt", "vit", "demo", "real"});
  EXPECT_GE(files.size(), 27u);
  for (const fs::path& file : files) {
    SCOPED_TRACE(file.filename());
    RunConfig config = read_config(file);
    ASSERT_TRUE(config.model && config.data);
    if (config.model->vocabulary_or_classes() == 0) config.model->fit(1000);
    // Allocated, never touched: a 1.3B model costs no memory here.
    const auto model = config.model->build(config.attention, config.model->max_positions());
    EXPECT_GT(model->parameters.count(), 100000);
    config.resolve_epochs(1000000);
    EXPECT_LT(config.schedule.warmup_steps, config.train.steps);
  }
}

TEST(ShippedConfigs, QuantizationSettingsOverlayAnyRun) {
  for (const fs::path& file : yaml_files({"ptq"})) {
    SCOPED_TRACE(file.filename());
    EXPECT_NO_THROW(read_config(file));
  }
}

TEST(ShippedConfigs, ClipGradientsExceptForImages) {
  for (const auto& [file, limit] : {std::pair{"bert.yaml", 1.}, {"opt.yaml", 1.}, {"vit.yaml", 0.}})
    EXPECT_EQ(load_run_config((fs::path(QUENCH_TESTS_DIR) / "../configs/demo" / file).string(), {})
                  .train.max_grad_norm,
              limit)
        << file;
}

TEST(ShippedConfigs, SweepsNameExistingConfigs) {
  for (const fs::path& file : yaml_files({"sweeps"})) {
    SCOPED_TRACE(file.filename());
    SweepConfig sweep;
    config::read(config::load(file.string()), sweep);
    for (const SweepRow& row : sweep.rows) {
      const fs::path base = file.parent_path() / (row.base ? *row.base : *sweep.base);
      ASSERT_TRUE(fs::exists(base));
      config::Node node = config::load(base.string());
      for (const std::string& assignment : row.set) config::set(node, assignment);
      RunConfig config;
      EXPECT_NO_THROW(config::read(node, config)) << row.name;
    }
  }
}

TEST(RunConfig, EndlessDataHasNoEpochs) {
  RunConfig config;
  config.train.steps = 7;
  EXPECT_NO_THROW(config.resolve_epochs(kEndless));
  config.schedule.steps = config::Steps::of_epochs(2);
  EXPECT_THROW(config.resolve_epochs(kEndless), UsageError);
  EXPECT_NO_THROW(config.resolve_epochs(96));
  EXPECT_EQ(*config.schedule.steps, 6) << "2 epochs of 3 batches of 32";
}

// One recipe of the paper (appendix C, SPEC 4.2): what its vanilla row trains with.
struct Recipe {
  std::string name;
  int64_t parameters;  // SPEC 3.2, for the vocabularies of BERT and OPT; 0: not in the paper
  double learning_rate, weight_decay, beta2;
  int64_t steps, warmup, batch, accumulation, length;
  std::string precision;
};
const Recipe kRecipes[] = {
    {"bert/base", 109514298, 1e-4, 0.01, 0.999, 1000000, 10000, 256, 1, 128, "fp16"},
    {"bert/6l", 0, 1e-4, 0.01, 0.999, 500000, 10000, 128, 1, 128, "fp16"},
    {"opt/125m", 124059648, 4e-4, 0.1, 0.95, 125000, 2000, 48, 4, 512, "fp16"},
    {"opt/350m", 343543808, 4e-4, 0.1, 0.95, 100000, 2000, 24, 11, 512, "fp16"},
    {"opt/1.3b", 1252458496, 4e-4, 0.1, 0.95, 100000, 2000, 14, 18, 512, "fp16"},
    // 300 and 20 epochs of ImageNet's 1281167 images
    {"vit/s16", 0, 1e-3, 0.03, 0.999, 750684, 50046, 512, 1, 0, "fp32"}};

RunConfig paper_config(const std::string& name) {
  RunConfig config = read_config(fs::path(QUENCH_TESTS_DIR) / "../configs" / (name + ".yaml"));
  config.resolve_epochs(1281167);
  return config;
}

TEST(PaperConfigs, TrainAsThePaperDoes) {
  for (const Recipe& recipe : kRecipes) {
    for (const char* attention : {"-vanilla", "-clipped", "-gated"}) {
      SCOPED_TRACE(recipe.name + attention);
      const RunConfig config = paper_config(recipe.name + attention);
      EXPECT_EQ(config.optimizer->learning_rate, recipe.learning_rate);
      EXPECT_EQ(config.optimizer->weight_decay, recipe.weight_decay);
      EXPECT_EQ(config::write(config).at("optimizer").at("betas"), Json({0.9, recipe.beta2}));
      EXPECT_EQ(config.train.steps, recipe.steps);
      EXPECT_EQ(config.schedule.warmup_steps, recipe.warmup);
      EXPECT_EQ(config.train.batch_size, recipe.batch);
      EXPECT_EQ(config.train.gradient_accumulation_steps, recipe.accumulation);
      EXPECT_EQ(config.data->sequence_length(), recipe.length);
      EXPECT_EQ(config.precision, recipe.precision);
      EXPECT_EQ(config.schedule.shape, recipe.length > 0 ? "linear" : "cosine");
      EXPECT_EQ(config.schedule.final_lr_fraction, recipe.length > 0 ? 0 : 0.01);
      EXPECT_EQ(config.train.max_grad_norm, recipe.length > 0 ? 1 : 0);
    }
  }
}

TEST(PaperConfigs, AttendAsThePapersRows) {
  for (const auto& [name, attention] :
       {std::pair{"bert/base-clipped", R"({"softmax": {"type": "clipped", "gamma": -0.025}})"},
        {"bert/6l-clipped", R"({"softmax": {"type": "clipped", "gamma": -0.025}})"},
        {"bert/base-gated", R"({"gate": {"type": "mlp"}})"},
        {"bert/6l-gated", R"({"gate": {"type": "mlp"}})"},
        {"opt/125m-clipped", R"({"softmax": {"type": "clipped", "alpha": 12}})"},
        {"opt/125m-gated", R"({"gate": {"type": "linear", "init": 0.25}})"},
        {"opt/350m-clipped", R"({"softmax": {"type": "clipped", "alpha": 12}})"},
        {"opt/350m-gated", R"({"gate": {"type": "linear", "init": 0.25}})"},
        {"opt/1.3b-gated", R"({"gate": {"type": "all_heads"}})"},
        {"opt/1.3b-finetune-gated",
         R"({"gate": {"type": "linear", "init": 0.5, "output_scale": 2, "weight_std": 0.001}})"},
        {"vit/s16-clipped", R"({"softmax": {"type": "clipped", "gamma": -0.0001}})"},
        {"vit/s16-gated", R"({"gate": {"type": "linear", "init": 0.5}})"}}) {
    AttentionConfig expected;
    const config::Node node = config::parse(attention, {name, 1});
    config::read(node, expected);
    EXPECT_EQ(config::write(paper_config(name).attention), config::write(expected)) << name;
  }
  for (const Recipe& recipe : kRecipes)
    EXPECT_EQ(config::write(paper_config(recipe.name + "-vanilla").attention),
              config::write(AttentionConfig()));
  for (const auto& [name, decays] : {std::pair{"125m-vanilla", false},
                                     {"125m-clipped", true},
                                     {"125m-gated", true},
                                     {"350m-gated", false}})
    EXPECT_EQ(paper_config(concat("opt/", name)).optimizer->decay_norm_weights, decays) << name;
}

TEST(PaperConfigs, HaveTheParameterCountsOfTheReference) {
  const auto count = [](const std::string& name) {
    const RunConfig config = paper_config(name);
    config.model->fit(name.starts_with("opt") ? 50272 : 30522);
    return config.model->build(config.attention, 512)->parameters.count();
  };
  for (const Recipe& recipe : kRecipes)
    if (recipe.parameters > 0) {
      EXPECT_EQ(count(recipe.name + "-vanilla"), recipe.parameters) << recipe.name;
    }
  EXPECT_EQ(count("bert/base-gated"), 109514298 + 152208);
}

}  // namespace
}  // namespace quench
