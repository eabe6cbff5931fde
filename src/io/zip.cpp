#include "io/zip.h"

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "base/error.h"

namespace quench {
namespace {

static_assert(std::endian::native == std::endian::little, "zip fields are little-endian");

constexpr uint32_t kLocalHeader = 0x04034b50, kCentralHeader = 0x02014b50, kEnd = 0x06054b50;
constexpr uint32_t kEnd64 = 0x06064b50, kEnd64Locator = 0x07064b50;
constexpr size_t kEndSize = 22, kCentralSize = 46, kLocalSize = 30, kLocatorSize = 20;
constexpr uint16_t kExtra64 = 1;        // extra field with the 64-bit sizes and offset
constexpr uint32_t kIn64 = 0xffffffff;  // a 32-bit field whose value is in that extra field

// Without overlaps the entries together are no larger than the file.
void check_disjoint(const std::map<std::string, std::string_view>& entries,
                    const std::string& where) {
  std::vector<std::string_view> sorted;
  for (const auto& [name, bytes] : entries) sorted.push_back(bytes);
  std::sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return std::pair(a.data(), a.size()) < std::pair(b.data(), b.size());
  });
  for (size_t i = 1; i < sorted.size(); ++i)
    check(sorted[i - 1].data() + sorted[i - 1].size() <= sorted[i].data(), where,
          " is damaged: two zip entries overlap");
}

class Zip {
 public:
  Zip(std::string_view file, const std::string& where) : file_(file), where_(where) {}

  std::map<std::string, std::string_view> entries() const;

 private:
  struct Directory {
    uint64_t entries, begin;
  };

  std::string_view bytes(uint64_t begin, uint64_t size) const {
    check(begin <= file_.size() && size <= file_.size() - begin, where_,
          " is damaged or not complete: a zip entry leads outside the file");
    return file_.substr(begin, size);
  }
  template <class T>
  T number(uint64_t at) const {
    T value;
    std::memcpy(&value, bytes(at, sizeof(T)).data(), sizeof(T));
    return value;
  }
  void expect(uint64_t at, uint32_t signature) const {
    check(number<uint32_t>(at) == signature, where_, " is damaged: no zip header at its byte ", at);
  }

  Directory directory() const;
  std::string_view content(uint64_t central, const std::string& name) const;

  std::string_view file_;
  const std::string& where_;
};

Zip::Directory Zip::directory() const {
  check(file_.size() >= kEndSize, where_, " is too short for a zip file");
  // The end record is the last thing in the file but for a comment of at most 65535 bytes.
  uint64_t end = file_.size() - kEndSize;
  const uint64_t first = end - std::min<uint64_t>(end, 65535);
  while (number<uint32_t>(end) != kEnd) {
    check(end > first, where_, " is damaged or not complete: the end of a zip file is missing");
    --end;
  }
  const bool is64 = end >= kLocatorSize && number<uint32_t>(end - kLocatorSize) == kEnd64Locator;
  if (!is64) return {number<uint16_t>(end + 10), number<uint32_t>(end + 16)};
  const uint64_t end64 = number<uint64_t>(end - kLocatorSize + 8);
  expect(end64, kEnd64);
  bytes(end64, 56);
  return {number<uint64_t>(end64 + 32), number<uint64_t>(end64 + 48)};
}

std::string_view Zip::content(uint64_t central, const std::string& name) const {
  check(number<uint16_t>(central + 10) == 0 && (number<uint16_t>(central + 8) & 1) == 0, where_,
        ": zip entry '", name, "' is compressed or encrypted, which torch.save never does");
  uint64_t sizes[] = {number<uint32_t>(central + 24), number<uint32_t>(central + 20),
                      number<uint32_t>(central + 42)};  // uncompressed, compressed, local header
  // The extra field lists, in this order, those of the three that need 64 bits.
  uint64_t extra = central + kCentralSize + name.size();
  const uint64_t extra_end = extra + number<uint16_t>(central + 30);
  while (extra + 4 <= extra_end) {
    const auto id = number<uint16_t>(extra);
    const uint64_t next = extra + 4 + number<uint16_t>(extra + 2);
    uint64_t field = extra + 4;
    for (uint64_t& size : sizes) {
      if (id != kExtra64 || size != kIn64 || field + 8 > next) continue;
      size = number<uint64_t>(field);
      field += 8;
    }
    extra = next;
  }
  const auto [size, stored, local] = sizes;
  check(size == stored, where_, " is damaged: zip entry '", name, "' has two sizes");
  expect(local, kLocalHeader);
  const uint64_t header = kLocalSize + number<uint16_t>(local + 26) + number<uint16_t>(local + 28);
  bytes(local, header);
  return bytes(local + header, size);
}

std::map<std::string, std::string_view> Zip::entries() const {
  std::map<std::string, std::string_view> entries;
  const Directory directory = this->directory();
  uint64_t at = directory.begin;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    expect(at, kCentralHeader);
    const uint64_t name_size = number<uint16_t>(at + 28);
    const std::string name(bytes(at + kCentralSize, name_size));
    const auto [entry, added] = entries.emplace(name, content(at, name));
    check(added, where_, " is damaged: two zip entries are called '", name, "'");
    at += kCentralSize + name_size + number<uint16_t>(at + 30) + number<uint16_t>(at + 32);
  }
  check_disjoint(entries, where_);
  return entries;
}

}  // namespace

std::map<std::string, std::string_view> stored_entries(std::string_view file,
                                                       const std::string& where) {
  return Zip(file, where).entries();
}

}  // namespace quench
