#include "base/hash.h"

#include <gtest/gtest.h>

#include <set>

namespace quench {
namespace {

const std::string kText = "The quick brown fox jumps over the lazy dog";

TEST(ContentHash, IsPinned) { EXPECT_EQ(content_hash(kText), "3c171e131c1cf407"); }

TEST(ContentHash, DoesNotDependOnTheCuts) {
  for (size_t first = 0; first <= kText.size(); ++first) {
    for (size_t second : {size_t{0}, size_t{1}, size_t{7}, size_t{8}, size_t{20}}) {
      ContentHash hash;
      hash.update(kText.substr(0, first));
      hash.update(kText.substr(first, second));
      hash.update(kText.substr(std::min(first + second, kText.size())));
      EXPECT_EQ(hash.hex(), content_hash(kText)) << first << " " << second;
    }
  }
}

TEST(ContentHash, SeesEveryBitAndTheLength) {
  std::set<std::string> hashes = {content_hash(kText), content_hash(kText + '\0'),
                                  content_hash("")};
  for (size_t bit = 0; bit < 8 * kText.size(); ++bit) {
    std::string changed = kText;
    changed[bit / 8] = static_cast<char>(changed[bit / 8] ^ (1 << (bit % 8)));
    hashes.insert(content_hash(changed));
  }
  EXPECT_EQ(hashes.size(), 3 + 8 * kText.size());
}

}  // namespace
}  // namespace quench
