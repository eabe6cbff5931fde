#include "data/tokenizer.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quench;
  return fuzz::only_errors([&] {
    const auto tokenizer = load_tokenizer(fuzz::write("tokenizer.json", fuzz::text(data, size)));
    tokenizer->decode(tokenizer->document("The words, of a text\xc3\xa9."));
  });
}
