// JPEG, PNG and WebP. A changed PNG gets the checksums of its chunks again: no mutation would get
// past them.
#include <zlib.h>

#include <cstring>

#include "data/image/decode.h"
#include "fuzz.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

uint32_t big_endian(const uint8_t* at) {
  return uint32_t{at[0]} << 24 | at[1] << 16 | at[2] << 8 | at[3];
}

void mend_checksums(uint8_t* data, size_t size) {
  constexpr size_t kSignature = 8, kAround = 12;  // of a chunk's body: length, kind, checksum
  if (size < kSignature || std::memcmp(data, "\x89PNG", 4) != 0) return;
  for (size_t at = kSignature; size - at >= kAround;) {
    const size_t length = big_endian(data + at);
    if (length > size - at - kAround) return;
    const uint32_t sum =
        static_cast<uint32_t>(crc32(0, data + at + 4, static_cast<unsigned>(length + 4)));
    for (int i = 0; i < 4; ++i)
      data[at + 8 + length + i] = static_cast<uint8_t>(sum >> (24 - 8 * i));
    at += length + kAround;
  }
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int) {
  const size_t changed = LLVMFuzzerMutate(data, size, max_size);
  mend_checksums(data, changed);
  return changed;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quench;
  return fuzz::only_errors([&] { decode_image({data, size}, "picture"); });
}
