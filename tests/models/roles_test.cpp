// What each optimizer takes: the matrices of the layers are Muon's, everything else AdamW's.
#include <gtest/gtest.h>

#include <regex>

#include "base/error.h"
#include "config/yaml.h"
#include "models/model.h"
#include "optimizers/muon.h"

namespace quench {
namespace {

struct Case {
  std::string model;   // a section behind `type: `
  std::string hidden;  // a regular expression for the names of its hidden matrices
};

class Roles : public ::testing::TestWithParam<Case> {};

TEST_P(Roles, MuonTakesTheMatricesOfTheLayers) {
  std::shared_ptr<ModelConfig> config;
  const config::Node node =
      config::parse(concat("{model: {type: ", GetParam().model, "}}"), {"test", 1});
  config::read_with(
      node, [&](config::Fields& f) { f.variant("model", config, model_types(), "the model"); });
  for (const char* attention :
       {"{}", "{gate: {type: mlp}}", "{gate: {type: elementwise}, softmax: {type: sink}}",
        "{gate: {type: all_heads}, softmax: {type: key_bias, value: true}, query_key_norm: rms}"}) {
    AttentionConfig section;
    config::read(config::parse(attention, {"test", 1}), section);
    const auto model = config->build(section, config->max_positions());
    model->parameters.initialize(1);
    const auto groups = MuonConfig().build(model->parameters)->groups();
    std::vector<std::string> expected, taken = groups[0].second;
    for (const auto& [name, value] : model->parameters.named_values())
      if (std::regex_match(name, std::regex(GetParam().hidden))) expected.push_back(name);
    EXPECT_EQ(taken, expected) << attention;
    EXPECT_EQ(taken.size(), 2u * 6);
    size_t all = 0;
    for (const auto& [decay, names] : groups) all += names.size();
    EXPECT_EQ(all, model->parameters.named_values().size());
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, Roles,
    ::testing::Values(
        Case{
            "bert, vocab_size: 32, hidden_size: 8, num_hidden_layers: 2, "
            "num_attention_heads: 2, intermediate_size: 16",
            R"(bert\.encoder\.layer\.\d\.(attention\.self\.(query|key|value)|attention\.output\.dense|intermediate\.dense|output\.dense)\.weight)"},
        Case{"opt, vocab_size: 32, hidden_size: 8, word_embed_proj_dim: 4, "
             "num_hidden_layers: 2, num_attention_heads: 2, ffn_dim: 16",
             R"(model\.decoder\.layers\.\d\.(self_attn\.(q|k|v|out)_proj|fc1|fc2)\.weight)"},
        Case{
            "vit, num_labels: 3, hidden_size: 8, num_hidden_layers: 2, "
            "num_attention_heads: 2, intermediate_size: 16, image_size: 8, patch_size: 4",
            R"(vit\.encoder\.layer\.\d\.(attention\.attention\.(query|key|value)|attention\.output\.dense|intermediate\.dense|output\.dense)\.weight)"}),
    [](const auto& info) { return info.param.model.substr(0, info.param.model.find(',')); });

}  // namespace
}  // namespace quench
