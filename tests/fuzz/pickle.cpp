// pytorch_model.bin: zip and pickle.
#include "io/pickle.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quench;
  return fuzz::only_errors([&] { read_pickle(fuzz::write("a.bin", fuzz::text(data, size))); });
}
