#include "data/tokenizer.h"

#include <gtest/gtest.h>

namespace quench {
namespace {

// One id for each byte.
class ByteTokenizer : public Tokenizer {
 public:
  explicit ByteTokenizer(const SpecialTokens& special) : special_(special) {}
  std::vector<int32_t> encode(std::string_view text) const override {
    return {text.begin(), text.end()};
  }
  std::string decode(std::span<const int32_t> ids) const override {
    return {ids.begin(), ids.end()};
  }
  int64_t vocab_size() const override { return 256; }
  const SpecialTokens& special() const override { return special_; }
  void save(const std::string&) const override {}
  std::string hash() const override { return "0000000000000000"; }

 private:
  SpecialTokens special_;
};

using Ids = std::vector<int32_t>;

TEST(Document, GetsTheSpecialTokensOfItsFamily) {
  EXPECT_EQ(ByteTokenizer({.cls = 2, .sep = 3, .bos = 5, .eos = 6}).document("A"), (Ids{2, 65, 3}));
  EXPECT_EQ(ByteTokenizer({.bos = 5, .eos = 6}).document("A"), (Ids{5, 65}));
  EXPECT_EQ(ByteTokenizer({.eos = 6}).document("A"), (Ids{65, 6}));
  EXPECT_EQ(ByteTokenizer({}).document("A"), (Ids{65}));
}

TEST(SpecialTokens, StructuralOnesAreAllButUnknown) {
  const SpecialTokens special{.pad = 1, .unk = 7, .bos = 2, .eos = 2};
  EXPECT_EQ(special.structural(), (Ids{1, 2}));
}

}  // namespace
}  // namespace quench
