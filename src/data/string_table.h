// A map from byte strings to token ids, made once and then only read. All keys lie in one string
// and all entries in one array, so that a look-up touches two cache lines.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace quench {

class StringTable {
 public:
  struct Match {
    int32_t id = -1;
    size_t length = 0;
  };

  explicit StringTable(size_t max_keys) : slots_(std::bit_ceil(2 * max_keys + 1)) {}

  // Each key's id is its place.
  explicit StringTable(const std::vector<std::string>& keys) : StringTable(keys.size()) {
    for (size_t id = 0; id < keys.size(); ++id) insert(keys[id], static_cast<int32_t>(id));
  }

  // The last id given to a key stays. At most `max_keys` distinct keys may be inserted.
  void insert(std::string_view key, int32_t id) {
    const uint64_t hash = extend(kSeed, key);
    Slot& slot = slots_[position(key, hash)];
    if (slot.id < 0) {
      slot = {tag(hash), -1, static_cast<uint32_t>(keys_.size()),
              static_cast<uint32_t>(key.size())};
      keys_ += key;
      longest_ = std::max(longest_, key.size());
    }
    slot.id = id;
  }

  // -1: absent.
  int32_t find(std::string_view key) const { return slots_[position(key, extend(kSeed, key))].id; }

  // The longest non-empty prefix of `text` that is a key.
  Match longest_prefix(std::string_view text) const {
    text = text.substr(0, longest_);
    thread_local std::vector<uint64_t> hashes;  // of every prefix
    hashes.resize(text.size() + 1);
    hashes[0] = kSeed;
    for (size_t i = 0; i < text.size(); ++i) hashes[i + 1] = extend(hashes[i], text.substr(i, 1));
    for (size_t length = text.size(); length > 0; --length) {
      const int32_t id = slots_[position(text.substr(0, length), hashes[length])].id;
      if (id >= 0) return {id, length};
    }
    return {};
  }

 private:
  struct Slot {
    uint32_t tag = 0;
    int32_t id = -1;  // -1: empty
    uint32_t begin = 0, size = 0;
  };
  static constexpr uint64_t kSeed = 0xcbf29ce484222325u;  // FNV-1a

  static uint64_t extend(uint64_t hash, std::string_view bytes) {
    for (unsigned char byte : bytes) hash = (hash ^ byte) * 0x100000001b3u;
    return hash;
  }
  static uint32_t tag(uint64_t hash) { return static_cast<uint32_t>(hash); }

  // The slot of `key`, or the empty one where it would stand.
  size_t position(std::string_view key, uint64_t hash) const {
    const size_t mask = slots_.size() - 1;
    size_t at = (hash >> 32 ^ hash) & mask;
    while (slots_[at].id >= 0 &&
           (slots_[at].tag != tag(hash) ||
            std::string_view(keys_).substr(slots_[at].begin, slots_[at].size) != key)) {
      at = (at + 1) & mask;
    }
    return at;
  }

  std::vector<Slot> slots_;
  std::string keys_;
  size_t longest_ = 0;
};

}  // namespace quench
