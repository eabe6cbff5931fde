#include "data/bigram_backcopy.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <unordered_map>

#include "base/error.h"
#include "data/corpus.h"

namespace quench {
namespace {

using Counts = std::map<int64_t, uint64_t>;

// Calls f with the bytes of every character.
template <class F>
void for_each_character(std::string_view text, const F& f) {
  const auto continues = [&](size_t i) { return (static_cast<unsigned char>(text[i]) >> 6) == 2; };
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end) {
    for (++end; end < text.size() && continues(end);) ++end;
    f(text.substr(begin, end - begin));
  }
}

// UTF-8 sorts as the code points do.
std::vector<std::string> distinct_characters(std::string_view text) {
  std::unordered_map<std::string_view, bool> found;
  for_each_character(text, [&](std::string_view character) { found[character] = true; });
  std::vector<std::string> characters;
  for (const auto& entry : found) characters.emplace_back(entry.first);
  std::ranges::sort(characters);
  return characters;
}

// How often each character stands in the text; how often behind each one.
struct TextCounts {
  Counts characters;
  std::vector<Counts> followers;
};

TextCounts count(std::string_view text, const std::vector<std::string>& characters) {
  std::unordered_map<std::string_view, int64_t> ids;
  for (const std::string& character : characters)
    ids.emplace(character, static_cast<int64_t>(ids.size()));
  TextCounts counts{{}, std::vector<Counts>(characters.size())};
  int64_t last = -1;
  for_each_character(text, [&](std::string_view character) {
    const int64_t id = ids.at(character);
    ++counts.characters[id];
    if (last >= 0) ++counts.followers[static_cast<size_t>(last)][id];
    last = id;
  });
  return counts;
}

std::vector<int64_t> most_frequent(const Counts& counts, int64_t n) {
  std::vector<int64_t> ids(counts.size());
  std::iota(ids.begin(), ids.end(), 0);
  std::ranges::stable_sort(ids, std::greater(), [&](int64_t id) { return counts.at(id); });
  ids.resize(static_cast<size_t>(n));
  return ids;
}

}  // namespace

BigramBackcopy::BigramBackcopy(std::string_view text, int64_t triggers) {
  const size_t invalid = find_invalid_utf8(text);
  check(invalid == text.npos, "the text is not UTF-8: byte ", invalid + 1,
        " belongs to no character");
  characters_ = distinct_characters(text);
  check(begin_id() > triggers, "the text has ", begin_id(),
        " different characters; expected more than the ", triggers, " triggers");
  const TextCounts counts = count(text, characters_);
  triggers_ = most_frequent(counts.characters, triggers);
  is_trigger_.resize(static_cast<size_t>(vocab_size()));
  for (const int64_t id : triggers_) is_trigger_[static_cast<size_t>(id)] = true;

  const auto add_row = [&](const Counts& followers) {
    Row& row = rows_.emplace_back();
    for (const auto& [id, n] : followers) {
      row.next.push_back(id);
      row.cumulative.push_back(n + (row.cumulative.empty() ? 0 : row.cumulative.back()));
    }
  };
  for (const Counts& followers : counts.followers)
    add_row(followers.empty() ? counts.characters : followers);
  Counts first = counts.characters;
  for (const int64_t id : triggers_) first.erase(id);
  add_row(first);
}

double BigramBackcopy::Row::probability(size_t i) const {
  return static_cast<double>(count(i)) / static_cast<double>(cumulative.back());
}

double BigramBackcopy::Row::entropy() const {
  double sum = 0;
  for (size_t i = 0; i < next.size(); ++i) sum -= probability(i) * std::log(probability(i));
  return sum;
}

int64_t BigramBackcopy::Row::draw(CounterRng& rng) const {
  const auto found = std::ranges::upper_bound(cumulative, rng.below(cumulative.back()));
  return next[static_cast<size_t>(found - cumulative.begin())];
}

void BigramBackcopy::sample(CounterRng& rng, std::span<int64_t> ids) const {
  for (size_t t = 0; t < ids.size(); ++t) {
    const auto last = static_cast<size_t>(t == 0 ? begin_id() : ids[t - 1]);
    if (t == 0) {
      ids[t] = begin_id();
    } else if (is_trigger_[last]) {
      ids[t] = ids[t - 2];
    } else {
      ids[t] = rows_[last].draw(rng);
    }
  }
}

// Follows the chain exactly: at each place the probability of every token that is no trigger, and
// of having been the one before the trigger that stands there, which comes back next.
double BigramBackcopy::optimal_loss(int64_t length) const {
  std::vector<double> entropies;
  for (const Row& row : rows_) entropies.push_back(row.entropy());
  std::vector<double> token(rows_.size()), returning(rows_.size());
  token.back() = 1;  // <s>
  double sum = 0;
  for (int64_t t = 0; t < length - 1; ++t) {
    std::vector<double> next = returning, next_returning(rows_.size());
    for (size_t a = 0; a < rows_.size(); ++a) {
      if (token[a] == 0) continue;
      sum += token[a] * entropies[a];
      for (size_t i = 0; i < rows_[a].next.size(); ++i) {
        const auto b = static_cast<size_t>(rows_[a].next[i]);
        (is_trigger_[b] ? next_returning[a] : next[b]) += token[a] * rows_[a].probability(i);
      }
    }
    token = std::move(next);
    returning = std::move(next_returning);
  }
  return sum / static_cast<double>(length - 1);
}

}  // namespace quench
