// Whole quantized validations of the paper's code: every scale, every metric; and op by op on its
// stored inputs.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "io/safetensors.h"
#include "ptq/ptq.h"
#include "tests/support/golden.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// Our name of a quantizer of the reference.
std::string our_name(const std::string& theirs, bool weight) {
  static const std::vector<std::pair<std::string, std::string>> taps = {
      {"bert.embeddings.sum_input_token_type_embd_act_quantizer", "embeddings.token_type_sum"},
      {"bert.embeddings.sum_pos_embd_act_quantizer", "embeddings.sum"},
      {"bert.embeddings.LayerNorm", "embeddings.norm"},
      {"model.decoder.embed_sum_act_quantizer", "embeddings.sum"},
      {"model.decoder.project_in", "embeddings.project_in"},
      {"model.decoder.project_out", "project_out"},
      {"model.decoder.final_layer_norm", "final_norm"},
      {"lm_head", "logits"},
      {"bert.encoder.layer.", "layers."},
      {"model.decoder.layers.", "layers."},
      {"attention.self.attn_scores_act_quantizer", "attention.scores"},
      {"attention.self.attn_probs_act_quantizer", "attention.probs"},
      {"attention.self.context_act_quantizer", "attention.gated"},
      {"attention.self.", "attention."},
      {"attention.output.dense", "attention.output"},
      {"attention.output.res_act_quantizer", "attention.residual"},
      {"attention.output.LayerNorm", "attention.norm"},
      {"intermediate.0", "ffn.intermediate"},
      {".output.dense", ".ffn.output"},
      {".output.res_act_quantizer", ".ffn.residual"},
      {".output.LayerNorm", ".ffn.norm"},
      {"self_attn.attn_scores_act_quantizer", "attention.scores"},
      {"self_attn.attn_probs_act_quantizer", "attention.probs"},
      {"self_attn.context_act_quantizer", "attention.context"},
      {"self_attn.q_proj", "attention.query"},
      {"self_attn.k_proj", "attention.key"},
      {"self_attn.v_proj", "attention.value"},
      {"self_attn.out_proj", "attention.output"},
      {"self_attn_res_act_quantizer", "attention.residual"},
      {"self_attn_layer_norm", "attention.norm"},
      {"fc1_act", "ffn.intermediate"},
      {"fc2", "ffn.output"},
      {"ffn_res_act_quantizer", "ffn.residual"},
      {"final_layer_norm", "ffn.norm"},
  };
  std::string name =
      theirs.substr(0, theirs.rfind('.'));  // without ".weight_quantizer" / ".activation_quantizer"
  const auto replace = [&](const std::string& from, const std::string& to) {
    const size_t at = name.find(from);
    if (at != std::string::npos) name.replace(at, from.size(), to);
  };
  if (weight) {
    replace("intermediate.0", "intermediate.dense");
    replace("fc1_act", "fc1");
    replace("embed_positions.quant_embedding", "embed_positions");
    return name + ".weight";
  }
  for (const auto& [from, to] : taps) replace(from, to);
  return name;
}

class GoldenPtq : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    golden_ = testing::read_json(testing::golden_folder() / "quant" / (GetParam() + ".json"));
    tensors_ = read_safetensors(testing::golden_folder() / "quant" / (GetParam() + ".safetensors"));
    family_ = golden_.at("family");
    opt_ = family_ != "bert_s";
    model_ = testing::calm_model(family_, golden_.at("variant"));
    model_.model->parameters.to(testing::device(), at::kFloat);
  }

  std::string flag(const std::string& name, const std::string& otherwise) const {
    const auto& command = golden_.at("command");
    for (size_t i = 0; i < command.size(); ++i)
      if (command[i] == name)
        return i + 1 < command.size() ? command[i + 1].get<std::string>() : "";
    return otherwise;
  }
  bool has_flag(const std::string& name) const { return flag(name, "absent") != "absent"; }

  // The `ptq` section that says what the reference's command line says.
  PtqConfig config() const {
    PtqConfig c;
    c.weights.enabled = !has_flag("--no_weight_quant");
    c.weights.bits = std::stoll(flag("--n_bits", "8"));
    c.weights.estimator = opt_ || has_flag("--ranges_weights") ? "mse" : "minmax";
    if (golden_.at("setting") == "w8a8_perchannel") c.weights.granularity = "per_channel";
    c.activations.enabled = !has_flag("--no_act_quant");
    c.activations.bits = std::stoll(flag("--n_bits_act", "8"));
    c.activations.symmetric = opt_ && flag("--qmethod_acts", "") == "symmetric_uniform";
    if (flag("--ranges_acts", "running_minmax") == "MSE") c.activations.estimator = "mse";
    if (has_flag("--percentile")) c.activations.percentile = std::stod(flag("--percentile", ""));
    const std::string setup = flag("--quant_setup", "all");
    c.quantize_head = opt_ && setup == "all";
    const auto sixteen = [&](const char* match) {
      QuantizerOverride o;
      o.match = match;
      o.bits = 16;
      c.overrides.push_back(o);
    };
    if (setup == "fp32_head+int16_final_LN") {
      sixteen("final_norm");
      sixteen("model.decoder.final_layer_norm.weight");
    } else if (setup == "fp32_head+int16_all_LN") {
      sixteen("*norm");
      sixteen("*layer_norm.weight");
    }
    c.calibration.shuffle = false;
    c.calibration.batches = std::stoll(flag("--est_num_batches", "1"));
    c.calibration.batch_size = 4;
    c.evaluation.batch_size = 4;
    return c;
  }

  Json golden_;
  std::map<std::string, at::Tensor> tensors_;
  std::string family_;
  bool opt_ = false;
  Pretrained model_;
};

// Tolerances of the golden folder's README: another summation order flips single roundings, and the
// flips spread.
TEST_P(GoldenPtq, RepeatsTheReferenceWithinItsSpread) {
  const fs::path stream = testing::golden_folder() / "streams" / (family_ + ".safetensors");
  const PtqData data{testing::make_source(stream, opt_ ? "calib_clm." : "eval."),
                     testing::make_source(stream, "eval.")};
  RunConfig run;
  run.device = testing::device().is_cpu() ? "cpu" : "cuda";
  run.ptq = config();
  const Json result = quantize_and_evaluate(model_, data, run);
  const bool six_bits = config().activations.bits == 6;
  // The last batch's loss has near-equal minima: a flipped rounding may send the search to another
  // one.
  const bool golden_section =
      config().activations.estimator == "mse" && !config().activations.symmetric;

  const double perplexity = golden_.at("metrics").at("perplexity");
  EXPECT_NEAR(result.at("quantized").at("reference").at("perplexity").get<double>(), perplexity,
              (six_bits ? 0.007 : 0.005) * perplexity);
  // Another device sums a search's losses in an order of its own, with the same effect.
  const bool search_elsewhere = config().weights.estimator == "mse" && !testing::device().is_cpu();
  const double weight_spread = search_elsewhere ? 0.05 : 1e-6;
  std::map<std::string, Json> ours;
  for (const Json& record : result.at("quantizers")) ours[record.at("name")] = record;
  size_t enabled = 0;
  for (const Json& theirs : golden_.at("quantizers")) {
    if (!theirs.at("enabled").get<bool>()) continue;
    ++enabled;
    const bool weight = theirs.at("kind") == "weight";
    const std::string name = our_name(theirs.at("name"), weight);
    ASSERT_TRUE(ours.count(name)) << theirs.at("name") << " -> " << name;
    const Json& record = ours.at(name);
    EXPECT_EQ(record.at("bits"), theirs.at("n_bits")) << name;
    EXPECT_EQ(record.at("kind"), theirs.at("kind")) << name;
    if (theirs.contains("signed")) {
      EXPECT_EQ(record.at("signed"), theirs.at("signed")) << name;
    }
    if (theirs.at("per_channel").get<bool>()) {
      const at::Tensor scales =
          tensors_.at("scale." + theirs.at("name").get<std::string>()).flatten();
      const std::vector<double> mine = record.at("scale");
      ASSERT_EQ(static_cast<size_t>(scales.numel()), mine.size()) << name;
      for (size_t i = 0; i < mine.size(); ++i)
        EXPECT_NEAR(mine[i] / scales[static_cast<int64_t>(i)].item<double>(), 1, weight_spread)
            << name;
      continue;
    }
    const double scale = theirs.at("scale");
    const double tolerance = weight ? weight_spread : six_bits || golden_section ? 0.11 : 0.05;
    EXPECT_NEAR(record.at("scale").get<double>(), scale, tolerance * scale) << name;
  }
  EXPECT_EQ(enabled, ours.size());
  if (!opt_)
    for (const char* metric :
         {"max_ffn_out_inf_norm", "max_LN_out_inf_norm", "max_LN_inp_inf_norm", "avg_kurtosis"}) {
      const double expected = golden_.at("metrics").at(metric);
      EXPECT_NEAR(result.at("quantized").at("outliers").at("reference").at(metric).get<double>(),
                  expected, 0.05 * expected)
          << metric;
    }
}

INSTANTIATE_TEST_SUITE_P(All, GoldenPtq, ::testing::ValuesIn(testing::golden_cases("quant")),
                         [](const auto& info) { return info.param; });

// Quantizes each activation with the reference's own grid, compares, and hands on what the
// reference had: one op at a time.
class TeacherForcing : public TapListener {
 public:
  TeacherForcing(const Json& golden, const std::map<std::string, at::Tensor>& tensors) {
    for (const Json& q : golden.at("quantizers")) {
      if (!q.at("enabled").get<bool>()) continue;
      const bool weight = q.at("kind") == "weight";
      const std::string name = our_name(q.at("name"), weight);
      Site site;
      const auto scalar = [&](double x) { return at::scalar_tensor(x, testing::device()); };
      site.affine = {scalar(q.at("scale")), scalar(q.at("zero_point")), scalar(q.at("int_min")),
                     scalar(q.at("int_max"))};
      if (!weight) site.expected = tensors.at("act_row0." + q.at("name").get<std::string>());
      sites_[name] = site;
    }
  }

  bool wants(const std::string& tap) const override { return sites_.count(tap) > 0; }
  at::Tensor activation(const std::string& tap, const at::Tensor& x) override {
    const Site& site = sites_.at(tap);
    at::Tensor theirs = site.expected.to(x.device());
    if (tap.ends_with("attention.context")) {  // the reference's OPT holds [H, T, d] there
      theirs = theirs.unsqueeze(0).transpose(1, 2);
    }
    theirs = theirs.reshape(x.sizes());
    const at::Tensor ours = fake_quantize(x, site.affine);
    // A value on the border of two grid points may round either way; anything else is wrong.
    const double flips = (ours != theirs).to(at::kDouble).mean().item<double>();
    EXPECT_LE(testing::max_difference(ours, theirs), 1.0001 * site.affine.scale.item<double>())
        << tap;
    EXPECT_LT(flips, 1e-3) << tap;
    ++compared;
    return theirs;
  }
  at::Tensor weight(const std::string& name, const at::Tensor& w) override {
    const auto site = sites_.find(name);
    return site == sites_.end() ? w : fake_quantize(w, site->second.affine);
  }

  size_t compared = 0;

 private:
  struct Site {
    Affine affine;
    at::Tensor expected;
  };
  std::map<std::string, Site> sites_;
};

class GoldenOps : public GoldenPtq {};

TEST_P(GoldenOps, EachOpRepeatsTheReferenceOnStoredInputs) {
  at::NoGradGuard no_grad;
  const Batch all = testing::make_batch(
      read_safetensors(testing::golden_folder() / "streams" / (family_ + ".safetensors")), "eval.");
  const auto first = [](const at::Tensor& x) { return x.defined() ? x.slice(0, 0, 1) : x; };
  const Batch batch{
      first(all.input_ids), first(all.attention_mask), first(all.token_type_ids), {}, {}, {}};
  TeacherForcing teacher(golden_, tensors_);
  ForwardContext context{Taps({&teacher}), DropoutStream()};
  model_.model->forward(batch.to(testing::device()), context, Want::kLogits);
  size_t stored = 0;
  for (const auto& [name, unused] : tensors_) stored += name.starts_with("act_row0.");
  EXPECT_EQ(teacher.compared, stored);
}

// The runs whose activations are stored one by one.
std::vector<std::string> stored_cases() {
  std::vector<std::string> stored;
  for (const std::string& name : testing::golden_cases("quant"))
    if (fs::file_size(testing::golden_folder() / "quant" / (name + ".safetensors")) > 1000000)
      stored.push_back(name);
  return stored;
}
INSTANTIATE_TEST_SUITE_P(Stored, GoldenOps, ::testing::ValuesIn(stored_cases()),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace quench
