// Curves for TensorBoard: an event file is a sequence of TFRecords
// (https://www.tensorflow.org/tutorials/load_data/tfrecord), each an `Event` protobuf
// (tensorflow/core/util/event.proto), here encoded by hand.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

#include "io/appended_file.h"

namespace quench {

double seconds_since_epoch();

// CRC-32C (Castagnoli), as TFRecords use it.
uint32_t crc32c(std::string_view bytes);

class TensorBoardWriter {
 public:
  // Creates the folder and in it events.out.tfevents.<time>.<host>.<pid>. A resumed run adds a
  // file, and TensorBoard shows all files of a folder as one run, without what earlier files hold
  // behind `first_step`, the step that the run goes on from. Throws Error.
  TensorBoardWriter(const std::filesystem::path& folder, int64_t first_step);

  // TensorBoard groups tags by what stands before the first `/`: "train/loss". It stores float32.
  void scalar(std::string_view tag, int64_t step, double value,
              double wall_time = seconds_since_epoch());

  // Hands everything to the system. Throws Error where that fails; the next call tries again.
  void flush();

 private:
  void write_event(std::string_view event);

  std::optional<AppendedFile> file_;
};

}  // namespace quench
