#include "data/bigram_backcopy.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "data/bigram_text.h"
#include "tests/data/scratch.h"

namespace quench {
namespace {

using Probabilities = std::map<int64_t, double>;

// The language's definition once more, from the counts of an ASCII text.
class Reference {
 public:
  Reference(const std::string& text, const BigramBackcopy& language) : language_(language) {
    std::map<char, int64_t> ids;
    for (size_t i = 0; i < language.characters().size(); ++i)
      ids[language.characters()[i].at(0)] = static_cast<int64_t>(i);
    for (size_t i = 0; i < text.size(); ++i) {
      ++shares_[ids.at(text[i])];
      if (i > 0) ++followers_[ids.at(text[i - 1])][ids.at(text[i])];
    }
  }

  bool is_trigger(int64_t id) const { return std::ranges::count(language_.triggers(), id) > 0; }

  // Of the token behind `ids`, which are not empty.
  Probabilities next(const std::vector<int64_t>& ids) const {
    if (is_trigger(ids.back())) return {{ids.at(ids.size() - 2), 1}};
    Probabilities weights = shares_;
    if (ids.back() == language_.begin_id()) {
      std::erase_if(weights, [&](const auto& entry) { return is_trigger(entry.first); });
    } else if (followers_.contains(ids.back())) {
      weights = followers_.at(ids.back());
    }
    double sum = 0;
    for (const auto& entry : weights) sum += entry.second;
    for (auto& entry : weights) entry.second /= sum;
    return weights;
  }

  // Entropy of the sequences of so many tokens that go on from `ids`, nats: by all of them.
  double entropy(std::vector<int64_t> ids, int64_t length) const {
    if (static_cast<int64_t>(ids.size()) == length) return 0;
    double sum = 0;
    for (const auto& [id, p] : next(ids)) {
      ids.push_back(id);
      sum += p * (entropy(ids, length) - std::log(p));
      ids.pop_back();
    }
    return sum;
  }

 private:
  const BigramBackcopy& language_;
  Probabilities shares_;
  std::map<int64_t, Probabilities> followers_;
};

std::vector<int64_t> sequence(const BigramBackcopy& language, uint64_t seed, int64_t length) {
  std::vector<int64_t> ids(static_cast<size_t>(length));
  CounterRng rng{seed};
  language.sample(rng, ids);
  return ids;
}

TEST(BigramBackcopy, ItsTokensAreTheCharactersInTheOrderOfTheirCodePoints) {
  const BigramBackcopy language("z\u00e4 b\u20ac b\U0001f600\u00e4b", 2);
  EXPECT_EQ(language.characters(),
            (std::vector<std::string>{" ", "b", "z", "\u00e4", "\u20ac", "\U0001f600"}));
  EXPECT_EQ(language.begin_id(), 6);
  EXPECT_EQ(language.vocab_size(), 7);
  EXPECT_EQ(language.triggers(), (std::vector<int64_t>{1, 0})) << "b, and ' ' as often as \u00e4";
}

TEST(BigramBackcopy, FollowsItsRules) {
  const BigramBackcopy language(kBigramText, 3);
  const Reference reference(std::string(kBigramText), language);
  int64_t triggers = 0;
  for (uint64_t seed = 0; seed < 200; ++seed) {
    const std::vector<int64_t> ids = sequence(language, seed, 64);
    EXPECT_EQ(ids[0], language.begin_id());
    for (size_t t = 1; t < ids.size(); ++t) {
      ASSERT_GE(ids[t], 0);
      ASSERT_LT(ids[t], language.begin_id()) << "only the first is <s>";
      if (!reference.is_trigger(ids[t])) continue;
      ++triggers;
      ASSERT_GE(t, 2u) << "none stands behind <s>";
      EXPECT_FALSE(reference.is_trigger(ids[t - 1]));
      if (t + 1 < ids.size()) {
        EXPECT_EQ(ids[t + 1], ids[t - 1]);
      }
    }
  }
  EXPECT_GT(triggers, 1000);
}

TEST(BigramBackcopy, DrawsWithTheFrequenciesOfTheText) {
  const BigramBackcopy language(kBigramText, 3);
  const Reference reference(std::string(kBigramText), language);
  std::map<int64_t, Probabilities> found;
  for (uint64_t seed = 0; seed < 4000; ++seed) {
    const std::vector<int64_t> ids = sequence(language, seed, 64);
    for (size_t t = 0; t + 1 < ids.size(); ++t)
      if (!reference.is_trigger(ids[t])) ++found[ids[t]][ids[t + 1]];
  }
  EXPECT_EQ(found.size(), 32u) << "<s> and the 31 characters that are no triggers";
  for (const auto& [id, counts] : found) {
    double draws = 0;
    for (const auto& entry : counts) draws += entry.second;
    const Probabilities expected = reference.next({0, id});
    for (const auto& entry : counts) EXPECT_TRUE(expected.contains(entry.first)) << entry.first;
    for (const auto& [next, p] : expected) {
      const double n = counts.contains(next) ? counts.at(next) : 0;
      // Five standard deviations of a binomial count; a rare pair may come once or twice more.
      EXPECT_NEAR(n, draws * p, 5 * std::sqrt(draws * p * (1 - p)) + 2) << id << " " << next;
    }
  }
}

TEST(BigramBackcopy, WithoutTriggersItIsTheBigramAlone) {
  const BigramBackcopy language("abcabdab", 0);
  EXPECT_TRUE(language.triggers().empty());
  const Reference reference("abcabdab", language);
  EXPECT_NEAR(language.optimal_loss(7), reference.entropy({language.begin_id()}, 7) / 6, 1e-14);
}

// By hand: triggers {a} (3 of 7), so the first is b, c or d with 2/4, 1/4, 1/4. Only a follows b
// and c, and a copies.
TEST(BigramBackcopy, TheOptimalLossIsThatOfAWorkedExample) {
  const BigramBackcopy language("dbacaba", 1);
  EXPECT_EQ(language.triggers(), (std::vector<int64_t>{0}));
  const double first = 1.5 * std::log(2);
  EXPECT_NEAR(language.optimal_loss(2), first, 1e-15);
  EXPECT_NEAR(language.optimal_loss(3), first / 2, 1e-15);
  EXPECT_NEAR(language.optimal_loss(10), first / 9, 1e-15);
}

// The chain rule: the losses of all places sum up to the entropy of the sequence. The bound is some
// roundings of float64. 'z' and 'w' stand at the text's end alone, where nothing follows.
TEST(BigramBackcopy, TheOptimalLossIsTheEntropyOfAllSequences) {
  for (const std::string text : {"abacabdaaccbz", "the teeth w"})
    for (const int64_t triggers : {1, 2})
      for (const int64_t length : {2, 3, 4, 8}) {
        const BigramBackcopy language(text, triggers);
        const Reference reference(text, language);
        EXPECT_NEAR(language.optimal_loss(length),
                    reference.entropy({language.begin_id()}, length) / (length - 1), 1e-13)
            << text << " " << triggers << " " << length;
      }
}

TEST(BigramBackcopy, TheOptimalLossIsWhatAModelThatKnowsAllReaches) {
  const BigramBackcopy language(kBigramText, 3);
  const Reference reference(std::string(kBigramText), language);
  constexpr int kSequences = 1000, kLength = 64;
  double sum = 0, squares = 0;
  for (int i = 0; i < kSequences; ++i) {
    const std::vector<int64_t> ids = sequence(language, static_cast<uint64_t>(i), kLength);
    double loss = 0;
    for (size_t t = 1; t < ids.size(); ++t)
      loss -= std::log(
                  reference.next({ids.begin(), ids.begin() + static_cast<int64_t>(t)}).at(ids[t])) /
              (kLength - 1);
    sum += loss;
    squares += loss * loss;
  }
  const double mean = sum / kSequences,
               error = std::sqrt((squares / kSequences - mean * mean) / kSequences);
  EXPECT_LT(error, 0.01);
  EXPECT_NEAR(language.optimal_loss(kLength), mean, 4 * error);
}

// Else a sequence would repeat a pair of characters from there on.
TEST(BigramBackcopy, InTheTextThatIsBuiltInNoCharacterIsFollowedByTriggersAlone) {
  for (int64_t triggers = 1; triggers <= 5; ++triggers) {
    const BigramBackcopy language(kBigramText, triggers);
    const Reference reference(std::string(kBigramText), language);
    for (int64_t id = 0; id < language.begin_id(); ++id) {
      if (reference.is_trigger(id)) continue;
      EXPECT_TRUE(std::ranges::any_of(reference.next({id}), [&](const auto& entry) {
        return !reference.is_trigger(entry.first);
      })) << language.characters()[static_cast<size_t>(id)];
    }
  }
}

TEST(BigramBackcopy, ASequenceStaysTheSameForEver) {
  const BigramBackcopy language(kBigramText, 3);
  std::string text;
  for (const int64_t id : sequence(language, 1, 41))
    text += id == language.begin_id() ? "^" : language.characters()[static_cast<size_t>(id)];
  EXPECT_EQ(text, "^ho otarnreralit, , ,\nwonoanagegl,\nininin");
}

TEST(BigramBackcopy, ATextThatWillNotDoIsRefused) {
  EXPECT_EQ(error_of([] { BigramBackcopy("abcabc", 3); }),
            "the text has 3 different characters; expected more than the 3 triggers");
  EXPECT_EQ(error_of([] { BigramBackcopy("", 0); }),
            "the text has 0 different characters; expected more than the 0 triggers");
  EXPECT_EQ(error_of([] { BigramBackcopy("abcd\xff", 3); }),
            "the text is not UTF-8: byte 5 belongs to no character");
  EXPECT_NO_THROW(BigramBackcopy("abcd", 3));
}

}  // namespace
}  // namespace quench
