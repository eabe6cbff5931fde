// config.json, and behind a NUL state.json, of a checkpoint.
#include "fuzz.h"
#include "models/run_checkpoints.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quench;
  const auto [config, state] = fuzz::halves(fuzz::text(data, size));
  fuzz::write("config.json", config);
  fuzz::write("state.json", state);
  fuzz::only_errors([] { defect(fuzz::folder(), CheckpointUse::kTraining); });
  return 0;
}
