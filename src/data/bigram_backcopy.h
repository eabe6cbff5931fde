// Bigram-Backcopy (Guo et al. 2024, https://arxiv.org/abs/2410.13835): a language so simple that a
// small model learns all of it within minutes, and whose copying head has nothing to do at most
// places, so that it soon attends to the first token there.
//
// Its tokens are the characters of a text, in the order of their code points, and <s> behind them.
// Its triggers are the most frequent characters. A sequence is
//   y_0 = <s>
//   y_1 ~ pi, the characters' shares of the text, without the triggers
//   y_{t+1} = y_{t-1} where y_t is a trigger, else y_{t+1} ~ P(. | y_t)
// where P(b | a) is the share of b among the characters that follow a in the text (of one that only
// ends the text: the characters' shares of it). So a trigger never stands beside another one, and
// no place but the first has <s>.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/random.h"

namespace quench {

class BigramBackcopy {
 public:
  // Throws Error unless `text` is UTF-8 that has more different characters than triggers.
  BigramBackcopy(std::string_view text, int64_t triggers);

  int64_t vocab_size() const { return begin_id() + 1; }
  int64_t begin_id() const { return static_cast<int64_t>(characters_.size()); }  // of <s>
  const std::vector<std::string>& characters() const { return characters_; }     // in UTF-8
  // The most frequent first; of equally frequent ones the lower id.
  const std::vector<int64_t>& triggers() const { return triggers_; }

  // Fills `ids` with a sequence, a pure function of the rng's key and of the length.
  void sample(CounterRng& rng, std::span<int64_t> ids) const;

  // The least mean cross-entropy, in nats, with which any model can predict ids 1 to length - 1 of
  // sequences, each from those before it: the entropy of P where the last is no trigger, 0 where it
  // is one. The exact expectation over all sequences.
  double optimal_loss(int64_t length) const;

 private:
  // What may follow a token: pi without the triggers, or P.
  struct Row {
    std::vector<int64_t> next;
    std::vector<uint64_t> cumulative;  // counts in the text, summed up

    uint64_t count(size_t i) const { return cumulative[i] - (i == 0 ? 0 : cumulative[i - 1]); }
    double probability(size_t i) const;
    double entropy() const;  // nats
    int64_t draw(CounterRng& rng) const;
  };

  std::vector<std::string> characters_;
  std::vector<int64_t> triggers_;
  std::vector<bool> is_trigger_;  // [vocab_size]
  std::vector<Row> rows_;         // [vocab_size]
};

}  // namespace quench
