#include <ATen/ATen.h>

#include "base/error.h"
#include "batches/tensors.h"
#include "cli/commands.h"
#include "device/device.h"
#include "io/safetensors.h"

namespace quench {
namespace {

// Keeps what `forward` writes: hidden states and attention probabilities.
class Capture : public TapListener {
 public:
  explicit Capture(std::vector<std::string> hidden) : hidden_(std::move(hidden)) {}

  bool wants(const std::string& tap) const override {
    return tap.ends_with("attention.probs") ||
           std::find(hidden_.begin(), hidden_.end(), tap) != hidden_.end();
  }
  at::Tensor activation(const std::string& tap, const at::Tensor& x) override {
    seen_[tap] = x.detach();
    return x;
  }
  void write(std::vector<std::pair<std::string, at::Tensor>>& out) const {
    for (size_t i = 0; i < hidden_.size(); ++i)
      out.emplace_back(concat("hidden_states.", i), seen_.at(hidden_[i]));
    for (size_t i = 0; i + 1 < hidden_.size(); ++i)
      out.emplace_back(concat("attention_probs.", i),
                       seen_.at(concat("layers.", i, ".attention.probs")));
  }

 private:
  std::vector<std::string> hidden_;
  std::map<std::string, at::Tensor> seen_;
};

// What of `tensors` is not finite, though the inputs are; empty: nothing.
std::string not_finite(const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
  for (const auto& [name, x] : tensors)
    if (!at::isfinite(x).all().item<bool>()) return name;
  return "";
}

}  // namespace

void add_forward(CLI::App& app) {
  struct Options {
    ModelOptions model;
    std::string inputs, output, dtype = "float32", device = "cpu";
    bool gradients = false;
  };
  const auto options = std::make_shared<Options>();
  CLI::App* command =
      app.add_subcommand("forward", "one forward (and backward) pass, everything written out");
  add_model(*command, options->model);
  command
      ->add_option("--inputs", options->inputs,
                   "safetensors: input_ids or pixel_values, labels, ...")
      ->required();
  command
      ->add_option("--output", options->output, "safetensors: logits, loss, hidden_states.N, ...")
      ->required();
  command->add_flag("--gradients", options->gradients, "also grad.<parameter> of the loss");
  command->add_option("--dtype", options->dtype, "arithmetic")
      ->check(CLI::IsMember({"float32", "float64"}));
  command->add_option("--device", options->device, "where it is computed")
      ->check(CLI::IsMember({"auto", "cpu", "cuda"}));
  command->callback([options] {
    const at::Device device = choose_device(options->device);
    const at::ScalarType dtype = options->dtype == "float64" ? at::kDouble : at::kFloat;
    check_writable(options->output);
    Batch batch = read_tensors(options->inputs);
    check(!options->gradients || batch.labels.defined(), options->inputs,
          ": --gradients needs labels");
    const Pretrained pretrained = load_pretrained(
        options->model.model, options->model.allow_partial, options->model.assignments);
    check_tensors(batch, pretrained.config->limits(), options->inputs);
    const bool causal = pretrained.config->traits().task == "clm";
    check(
        !batch.labels.defined() || batch.label_count(causal) > 0, options->inputs,
        ": labels: expected one that counts; without labels there is no loss, and none is needed");
    if (batch.pixel_values.defined()) batch.pixel_values = batch.pixel_values.to(dtype);
    pretrained.model->parameters.to(device, dtype);
    Capture capture(pretrained.model->hidden_state_taps());
    ForwardContext context{Taps({&capture}), DropoutStream()};
    const ModelOutput output = pretrained.model->forward(batch.to(device), context, Want::kLogits);
    std::vector<std::pair<std::string, at::Tensor>> result{{"logits", output.logits.detach()}};
    if (output.loss.defined()) result.emplace_back("loss", output.loss.detach());
    capture.write(result);
    if (options->gradients) {
      output.loss.backward();
      for (auto& [name, gradient] : pretrained.model->parameters.named_gradients())
        result.emplace_back("grad." + name, gradient);
    }
    write_safetensors(options->output, result);
    const std::string overflow = not_finite(result);
    check(overflow.empty(), options->output, ": '", overflow,
          "' is not finite: nor are weights or activations of the model");
  });
}

}  // namespace quench
