#include "base/hash.h"

#include <bit>
#include <cstdio>
#include <cstring>

#include "base/random.h"

namespace quench {

static_assert(std::endian::native == std::endian::little, "words are read in place");

namespace {
// Bijective in the word, so that no single word can change unnoticed.
uint64_t absorb(uint64_t state, uint64_t word) { return mix((state ^ word) + 0x9e3779b97f4a7c15u); }
}  // namespace

void ContentHash::update(std::string_view bytes) {
  const auto push = [this](char byte) {
    word_ |= uint64_t{static_cast<unsigned char>(byte)} << (8 * (length_ % 8));
    if (++length_ % 8 == 0) {
      state_ = absorb(state_, word_);
      word_ = 0;
    }
  };
  size_t i = 0;
  for (; i < bytes.size() && length_ % 8 != 0; ++i) push(bytes[i]);
  for (; i + 8 <= bytes.size(); i += 8, length_ += 8) {
    uint64_t word;
    std::memcpy(&word, bytes.data() + i, 8);
    state_ = absorb(state_, word);
  }
  for (; i < bytes.size(); ++i) push(bytes[i]);
}

uint64_t ContentHash::value() const { return absorb(absorb(state_, word_), length_); }

std::string ContentHash::hex() const {
  char digits[17];
  std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(value()));
  return digits;
}

std::string content_hash(std::string_view bytes) {
  ContentHash hash;
  hash.update(bytes);
  return hash.hex();
}

}  // namespace quench
