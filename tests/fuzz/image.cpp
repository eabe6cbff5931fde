// JPEG, PNG and WebP.
#include "data/image/decode.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quench;
  return fuzz::only_errors([&] { decode_image({data, size}, "picture"); });
}
