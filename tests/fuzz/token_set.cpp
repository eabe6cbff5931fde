// index.json and one shard.
#include "data/token_set.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quench;
  return fuzz::only_errors([&] {
    const auto [index, shard] = fuzz::halves(fuzz::text(data, size));
    fuzz::write("index.json", index);
    fuzz::write("tokens-00000.bin", shard);
    const TokenSet set = TokenSet::open(fuzz::folder());
    if (set.index().chunk_length > 1 << 20) return;
    std::vector<int64_t> ids(static_cast<size_t>(set.index().chunk_length));
    set.tokens(0, set.index().chunk_length, ids.data());
    set.verify();  // last: no mutation gets past the checksum
  });
}
