// A checkpoint's config.json and, behind a NUL, its state.json.
#include "train/checkpoint.h"

#include "fuzz.h"
#include "io/atomic_file.h"
#include "models/run_checkpoints.h"
#include "tests/models/tiny_bert.h"

namespace quench {
namespace {

Pretrained& model() {
  static Pretrained pretrained = tiny_bert();
  return pretrained;
}

// A sound one.
const std::filesystem::path& checkpoint() {
  static const std::filesystem::path path = [] {
    TrainingState state;
    state.tensors.emplace_back("moment", at::zeros({3}));
    save_checkpoint(fuzz::folder(), model(), model().model->parameters.named_values(), nullptr,
                    state, 0);
    return step_folders(fuzz::folder()).front().path;
  }();
  return path;
}

}  // namespace
}  // namespace quench

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quench;
  static const std::string sound_config = read_file(checkpoint() / "config.json");
  const auto [config, state] = fuzz::halves(fuzz::text(data, size));
  fuzz::write(checkpoint() / "config.json", config);
  fuzz::write(checkpoint() / "state.json", state);
  fuzz::only_errors([] { defect(checkpoint(), CheckpointUse::kTraining); });
  fuzz::only_errors([] { load_architecture(checkpoint()); });
  fuzz::write(checkpoint() / "config.json", sound_config);
  fuzz::only_errors([] {
    TrainingState loaded;
    loaded.tensors.emplace_back("moment", at::zeros({3}));
    load_checkpoint(checkpoint(), model(), loaded);
  });
  return 0;
}
