// A fast 64-bit hash of contents: it names token sets and tokenizers and finds damaged files. Any
// change within one 8-byte word changes it for certain. Not for defence against forgery.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace quench {

class ContentHash {
 public:
  // Equal bytes give equal hashes, however they are cut into updates.
  void update(std::string_view bytes);

  // The length is part of the hash. More updates may follow.
  uint64_t value() const;

  // value() as 16 hexadecimal digits.
  std::string hex() const;

 private:
  uint64_t state_ = 0x9e3779b97f4a7c15u;
  uint64_t length_ = 0;
  uint64_t word_ = 0;  // the last length_ % 8 bytes, low byte first
};

std::string content_hash(std::string_view bytes);

}  // namespace quench
