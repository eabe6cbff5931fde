#include "report/tensorboard.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <string>
#include <system_error>

#include "base/environment.h"
#include "base/error.h"

namespace quench {
namespace {

constexpr std::array<uint32_t, 256> make_crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (crc & 1 ? 0x82F63B78u : 0u);
    table[i] = crc;
  }
  return table;
}

// TFRecords rotate and shift the checksum, so that one over data that holds checksums stays good.
uint32_t masked_crc(std::string_view bytes) {
  const uint32_t crc = crc32c(bytes);
  return ((crc >> 15) | (crc << 17)) + 0xA282EAD8u;
}

template <class T>
std::string bytes_of(T value) {  // little-endian, as is every machine that LibTorch runs on
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

// Protobuf's wire format: a key holds the field's number and how its value is encoded.
enum WireType { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

std::string varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}
std::string key(int field, WireType type) {
  return varint(static_cast<uint64_t>(field << 3 | type));
}
std::string bytes_field(int field, std::string_view value) {
  return key(field, kBytes) + varint(value.size()) + std::string(value);
}
std::string wall_time_field(double wall_time) { return key(1, kFixed64) + bytes_of(wall_time); }
std::string step_field(int64_t step) {
  return key(2, kVarint) + varint(static_cast<uint64_t>(step));
}

}  // namespace

double seconds_since_epoch() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration<double>(now).count();
}

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = make_crc_table();
  uint32_t crc = ~0u;
  for (const char byte : bytes) {
    crc = (crc >> 8) ^ kTable[(crc ^ static_cast<unsigned char>(byte)) & 0xFF];
  }
  return ~crc;
}

TensorBoardWriter::TensorBoardWriter(const std::filesystem::path& folder, int64_t first_step) {
  std::error_code reason;
  std::filesystem::create_directories(folder, reason);
  check(!reason, "cannot create ", folder.string(), ": ", reason.message());
  const double now = seconds_since_epoch();
  file_.emplace(folder / concat("events.out.tfevents.", static_cast<int64_t>(now), ".", host_name(),
                                ".", ::getpid()));
  write_event(wall_time_field(now) + bytes_field(3, "brain.Event:2"));  // file_version
  // Event{step = 2, session_log = 7}, SessionLog{status = 1}, START = 1: what lies at this step or
  // behind it is superseded.
  write_event(wall_time_field(now) + step_field(first_step + 1) +
              bytes_field(7, key(1, kVarint) + varint(1)));
  flush();
}

void TensorBoardWriter::scalar(std::string_view tag, int64_t step, double value, double wall_time) {
  // Event{wall_time = 1, step = 2, summary = 5}, Summary{value = 1}, Value{tag = 1, simple_value =
  // 2}
  const std::string summary_value =
      bytes_field(1, tag) + key(2, kFixed32) + bytes_of(static_cast<float>(value));
  write_event(wall_time_field(wall_time) + step_field(step) +
              bytes_field(5, bytes_field(1, summary_value)));
}

void TensorBoardWriter::flush() { file_->flush(); }

// A TFRecord: length, its checksum, the data, its checksum.
void TensorBoardWriter::write_event(std::string_view event) {
  const std::string length = bytes_of(static_cast<uint64_t>(event.size()));
  file_->add(length + bytes_of(masked_crc(length)));
  file_->add(event);
  file_->add(bytes_of(masked_crc(event)));
}

}  // namespace quench
