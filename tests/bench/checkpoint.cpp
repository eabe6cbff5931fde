// How long a checkpoint holds a training, and how long a resume takes: checkpoint FOLDER
// HIDDEN_SIZE LAYERS, of an OPT. Writes its checkpoints below FOLDER, which is new, and removes it.
#include <ATen/ATen.h>
#include <sys/resource.h>

#include <chrono>
#include <filesystem>
#include <iostream>

#include "models/opt.h"
#include "models/run_checkpoints.h"
#include "train/session.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

template <class Work>
double seconds(Work work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// Its weights are drawn or, as before a resume, undefined.
Pretrained opt(int64_t hidden_size, int64_t layers, bool drawn) {
  const auto config = std::make_shared<OptConfig>();
  config->vocab_size = 50272;
  config->hidden_size = hidden_size;
  config->ffn_dim = 4 * hidden_size;
  config->num_hidden_layers = layers;
  config->num_attention_heads = hidden_size / 64;
  Pretrained pretrained;
  pretrained.config = config;
  pretrained.max_seq_length = 512;
  pretrained.model = config->build({}, pretrained.max_seq_length);
  if (drawn) pretrained.model->parameters.initialize(/*seed=*/1);
  return pretrained;
}

void report(const char* name, double time) {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  std::printf("%-44s %8.2f s %8.2f GB at most so far\n", name, time,
              static_cast<double>(usage.ru_maxrss) / (1 << 20));
}

int64_t values(const NamedTensors& tensors) {
  int64_t count = 0;
  for (const auto& [name, tensor] : tensors) count += tensor.numel();
  return count;
}

void train(const RunConfig& config, const fs::path& folder, int64_t hidden_size, int64_t layers) {
  Pretrained pretrained = opt(hidden_size, layers, /*drawn=*/true);
  TrainingSession session(config, pretrained, at::kCPU);
  TrainingState state = session.state();
  const int64_t weights = values(pretrained.model->parameters.named_values());
  std::printf("%.2f G weights, a checkpoint of %.2f GB\n", static_cast<double>(weights) * 1e-9,
              static_cast<double>(weights + values(state.tensors)) * 4e-9);
  CheckpointWriter writer(folder, pretrained, nullptr, /*keep=*/1);
  for (state.step = 1; state.step <= 3; ++state.step) {
    report("the step waits", seconds([&] { writer.write(state); }));
    report("and the checkpoint is on the disk after", seconds([&] { writer.finish(); }));
  }
}

void resume(const RunConfig& config, const fs::path& folder, int64_t hidden_size, int64_t layers) {
  report("resumed", seconds([&] {
           Pretrained pretrained = opt(hidden_size, layers, /*drawn=*/false);
           TrainingSession session(config, pretrained, at::kCPU);
           TrainingState state = session.state();
           load_checkpoint(latest_checkpoint(folder, CheckpointUse::kTraining)->path, pretrained,
                           state);
           session.resume(state);
         }));
}

}  // namespace
}  // namespace quench

int main(int argc, char** argv) {
  using namespace quench;
  if (argc != 4) return std::cerr << "usage: checkpoint FOLDER HIDDEN_SIZE LAYERS\n", 2;
  const fs::path folder = argv[1];
  fs::create_directories(folder);
  RunConfig config;
  config.train.steps = 10;
  train(config, folder, std::atoll(argv[2]), std::atoll(argv[3]));
  resume(config, folder, std::atoll(argv[2]), std::atoll(argv[3]));
  fs::remove_all(folder);
  return 0;
}
