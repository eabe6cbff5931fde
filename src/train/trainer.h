// Pretraining, read top to bottom: data and model from the config, then steps; evaluation,
// checkpoints and logs on the way. Every random choice is a function of (seed, step), so a resumed
// run repeats an uninterrupted one to the last bit.
#pragma once

#include <filesystem>

#include "batches/data_config.h"
#include "models/pretrained.h"
#include "run/config.h"
#include "train/run_folder.h"

namespace quench {

// A model as the config describes it, on the CPU. Fills in what config.model leaves to the data.
// Its weights are fresh, or those of train.initialize_from, or undefined where a checkpoint's will
// replace them all.
enum class Weights { kInitial, kUndefined };
Pretrained build_model(const RunConfig& config, const OpenedData& data,
                       Weights weights = Weights::kInitial);

// Trains into `folder`. Returns the signal that stopped it, or 0. Throws UsageError where the
// folder holds a run that this one does not continue (another config, other data, more steps done
// than asked for) before anything in it has changed, Error if the model that came out has no finite
// loss, Interrupted (base/signals.h) if a signal came before there was a run to continue.
int train(const RunConfig& config, const std::filesystem::path& folder, const StartFrom& from);

}  // namespace quench
