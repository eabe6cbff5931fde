// vocab.txt; or, behind a first byte 'j', vocab.json and merges.txt.
#include "data/byte_bpe.h"
#include "data/wordpiece.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quench;
  return fuzz::only_errors([&] {
    std::unique_ptr<Tokenizer> tokenizer;
    if (size > 0 && data[0] == 'j') {
      const auto [vocabulary, merges] = fuzz::halves(fuzz::text(data + 1, size - 1));
      fuzz::write("merges.txt", merges);
      tokenizer = load_byte_bpe(fuzz::write("vocab.json", vocabulary));
    } else {
      tokenizer = load_wordpiece(fuzz::write("vocab.txt", fuzz::text(data, size)));
    }
    tokenizer->decode(tokenizer->document("The words, of a text\xc3\xa9."));
  });
}
