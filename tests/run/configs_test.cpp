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

TEST(PaperConfigs, HaveTheParameterCountsOfTheReference) {
  const auto count = [](const std::string& file, int64_t vocabulary, int64_t projection) {
    config::Node node = config::load((fs::path(QUENCH_TESTS_DIR) / "../configs" / file).string());
    config::set(node, concat("model.vocab_size=", vocabulary));
    if (projection) config::set(node, concat("model.word_embed_proj_dim=", projection));
    RunConfig config;
    config::read(node, config);
    return config.model->build(config.attention, 512)->parameters.count();
  };
  EXPECT_EQ(count("bert/base-vanilla.yaml", 30522, 0), 109514298);  // SPEC 3.2
  EXPECT_EQ(count("bert/base-gated.yaml", 30522, 0), 109514298 + 152208);
  EXPECT_EQ(count("opt/125m-vanilla.yaml", 50272, 768), 124059648);
}

}  // namespace
}  // namespace quench
