#include "report/tensorboard.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// A decoder of its own, from the formats' descriptions: bit by bit for the checksum, and for
// protobuf a message as a map from field number to raw value.
uint32_t slow_crc32c(const std::string& bytes) {
  uint32_t crc = 0xFFFFFFFF;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? (crc >> 1) ^ 0x82F63B78 : crc >> 1;
  }
  return crc ^ 0xFFFFFFFF;
}

uint32_t unmask(uint32_t masked) {
  const uint32_t rotated = masked - 0xA282EAD8;
  return (rotated >> 17) | (rotated << 15);
}

template <class T>
T decode(const std::string& bytes, size_t at = 0) {
  T value;
  std::memcpy(&value, bytes.substr(at, sizeof value).c_str(), sizeof value);
  return value;
}

std::vector<std::string> decode_records(const std::string& bytes) {
  std::vector<std::string> records;
  for (size_t at = 0; at < bytes.size();) {
    const auto length = decode<uint64_t>(bytes, at);
    EXPECT_EQ(unmask(decode<uint32_t>(bytes, at + 8)), slow_crc32c(bytes.substr(at, 8)));
    records.push_back(bytes.substr(at + 12, length));
    EXPECT_EQ(unmask(decode<uint32_t>(bytes, at + 12 + length)), slow_crc32c(records.back()));
    at += 16 + length;
  }
  return records;
}

std::map<int, std::string> decode_message(const std::string& bytes) {
  std::map<int, std::string> fields;
  size_t at = 0;
  const auto varint = [&] {
    uint64_t value = 0;
    for (int shift = 0;; shift += 7) {
      const uint64_t byte = static_cast<unsigned char>(bytes.at(at++));
      value |= (byte & 0x7F) << shift;
      if (byte < 0x80) return value;
    }
  };
  const auto take = [&](size_t count) {
    at += count;
    return bytes.substr(at - count, count);
  };
  while (at < bytes.size()) {
    const uint64_t key = varint();
    std::string& value = fields[static_cast<int>(key >> 3)];
    switch (key & 7) {
      case 0: {
        const uint64_t number = varint();
        value.assign(reinterpret_cast<const char*>(&number), 8);
        break;
      }
      case 1:
        value = take(8);
        break;
      case 2:
        value = take(varint());
        break;
      case 5:
        value = take(4);
        break;
      default:
        throw std::runtime_error("unknown wire type");
    }
  }
  return fields;
}

class TensorBoard : public testing::Test {
 protected:
  void TearDown() override { fs::remove_all(folder_.parent_path()); }

  std::vector<std::string> records() {
    const fs::path file = fs::directory_iterator(folder_)->path();
    EXPECT_EQ(file.filename().string().find("events.out.tfevents."), 0u);
    std::ifstream stream(file, std::ios::binary);
    return decode_records({std::istreambuf_iterator<char>(stream), {}});
  }

  const fs::path folder_ = fs::path(testing::TempDir()) / concat("quench-test-", ::getpid()) / "tb";
};

TEST(Crc32c, MatchesKnownVectors) {
  EXPECT_EQ(crc32c(""), 0u);
  EXPECT_EQ(crc32c("123456789"), 0xE3069283u);
  EXPECT_EQ(crc32c(std::string(32, '\0')), 0x8A9136AAu);  // RFC 3720, B.4
  EXPECT_EQ(crc32c(std::string(32, '\xFF')), 0x62A8AB43u);
}

TEST_F(TensorBoard, FileBeginsWithItsVersion) {
  TensorBoardWriter writer(folder_, 0);
  ASSERT_EQ(records().size(), 2u);  // there before any flush
  EXPECT_EQ(decode_message(records()[0])[3], "brain.Event:2");
}

// As tf.summary.SessionLog START, which makes TensorBoard drop what it read of this step and later.
TEST_F(TensorBoard, SupersedesWhatFollowsTheStepThatARunGoesOnFrom) {
  TensorBoardWriter writer(folder_, 41);
  auto event = decode_message(records().at(1));
  EXPECT_EQ(decode<int64_t>(event[2]), 42);
  EXPECT_EQ(decode<int64_t>(decode_message(event[7])[1]), 1);
}

TEST_F(TensorBoard, ScalarsComeBack) {
  TensorBoardWriter writer(folder_, 0);
  writer.scalar("train/loss", 300, 4.125, 1700000000.5);
  writer.scalar("train/learning_rate", 1'000'000'000'000, -1e-4, 1700000001);
  writer.flush();
  const std::vector<std::string> events = records();
  ASSERT_EQ(events.size(), 4u);

  auto event = decode_message(events[2]);
  EXPECT_EQ(decode<double>(event[1]), 1700000000.5);
  EXPECT_EQ(decode<int64_t>(event[2]), 300);
  auto value = decode_message(decode_message(event[5])[1]);
  EXPECT_EQ(value[1], "train/loss");
  EXPECT_EQ(decode<float>(value[2]), 4.125f);

  event = decode_message(events[3]);
  EXPECT_EQ(decode<int64_t>(event[2]), 1'000'000'000'000);
  value = decode_message(decode_message(event[5])[1]);
  EXPECT_EQ(value[1], "train/learning_rate");
  EXPECT_EQ(decode<float>(value[2]), -1e-4f);
}

TEST_F(TensorBoard, FlushMakesEventsVisible) {
  TensorBoardWriter writer(folder_, 0);
  writer.scalar("loss", 1, 1);
  writer.flush();
  EXPECT_EQ(records().size(), 3u);
}

TEST_F(TensorBoard, FolderThatCannotBeMadeIsNamed) {
  try {
    TensorBoardWriter writer("/proc/no-such-folder", 0);
    FAIL() << "no error";
  } catch (const Error& error) {
    EXPECT_NE(std::string(error.what()).find("/proc/no-such-folder"), std::string::npos);
  }
}

}  // namespace
}  // namespace quench
