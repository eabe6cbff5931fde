#include "io/safetensors.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quench;
  return fuzz::only_errors(
      [&] { read_safetensors(fuzz::write("a.safetensors", fuzz::text(data, size))); });
}
