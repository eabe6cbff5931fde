// The weight scales of the reference's whole PTQ runs, from the models' own weights: exact, but for
// searches on another device, which sums losses in an order of its own and may so end in another of
// near-equal minima.
#include <gtest/gtest.h>

#include "quant/quantizer.h"
#include "tests/quant/units.h"

namespace quench {
namespace {

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  const size_t position = text.find(from);
  return position == std::string::npos ? text : text.replace(position, from.size(), to);
}

std::string parameter_of(const std::string& quantizer) {
  std::string name = replaced(quantizer, "weight_quantizer", "weight");
  for (const auto& [wrapper, module] : {std::pair{".quant_embedding", ""},
                                        {"intermediate.0", "intermediate.dense"},
                                        {"fc1_act", "fc1"}}) {
    name = replaced(name, wrapper, module);
  }
  return name == "lm_head.weight" ? "model.decoder.embed_tokens.weight" : name;
}

Json scale_of(const Json& unit, const at::Tensor& weight) {
  QuantizerOptions options;
  options.bits = unit.at("n_bits");
  options.symmetric = true;
  options.granularity = unit.at("per_channel") ? "per_channel" : "per_tensor";
  if (unit.at("range_estimator") == "MSE_Estimator") options.estimator.type = "mse";
  Quantizer quantizer("weight", options);
  quantizer.observe(on_device(weight));
  EXPECT_EQ(quantizer.affine().is_signed(), unit.at("signed").get<bool>());
  return quantizer.record().at("scale");
}

TEST(WeightQuantizers, HaveTheScalesOfTheReferenceRuns) {
  const std::filesystem::path folder = all_units_folder().parent_path();
  if (!std::filesystem::exists(folder)) {
    GTEST_SKIP() << "the folder of golden values is not here: " << folder;
  }
  int compared = 0;
  for (const auto& file : std::filesystem::directory_iterator(folder / "quant")) {
    if (file.path().extension() != ".json") continue;
    SCOPED_TRACE(file.path());
    const Json run = parse_json(read_file(file.path()));
    const std::string family = run.at("family");
    const auto weights = read_safetensors(folder / "calm" / (family + "_weights.safetensors"));
    const auto outputs =
        read_safetensors(std::filesystem::path(file.path()).replace_extension("safetensors"));
    for (const Json& unit : run.at("quantizers")) {
      if (unit.at("kind") != "weight" || !unit.value("initialized", false)) continue;
      const std::string name = unit.at("name");
      SCOPED_TRACE(name);
      const bool search = unit.at("range_estimator") == "MSE_Estimator";
      const double spread = search && !testing::device().is_cpu() ? 0.05 : 0;
      const Json scale = scale_of(unit, weights.at(parameter_of(name)));
      if (scale.is_array()) {
        const at::Tensor expected = outputs.at("scale." + name).flatten();
        const at::Tensor ours = at::tensor(scale.get<std::vector<double>>()).to(at::kFloat);
        EXPECT_TRUE(at::allclose(ours, expected, spread, 0));
      } else {
        const double expected = unit.at("scale");
        EXPECT_NEAR(scale.get<double>(), expected, spread * expected);
      }
      ++compared;
    }
  }
  EXPECT_GT(compared, 500);
}

}  // namespace
}  // namespace quench
