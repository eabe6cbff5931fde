#include "base/random.h"

#include <cmath>
#include <numbers>
#include <numeric>
#include <utility>

namespace quench {

CounterRng::CounterRng(std::initializer_list<uint64_t> key) {
  for (uint64_t part : key) state_ = mix(state_ + kStep + part);
}

uint64_t CounterRng::below(uint64_t n) {
  // Lemire 2019, https://doi.org/10.1145/3230636: the high half of draw * n; the low half tells the
  // few draws that would favour some results.
  __extension__ using Wide = unsigned __int128;
  Wide product = Wide{next()} * n;
  if (static_cast<uint64_t>(product) < n) {
    const uint64_t threshold = -n % n;
    while (static_cast<uint64_t>(product) < threshold) product = Wide{next()} * n;
  }
  return static_cast<uint64_t>(product >> 64);
}

double CounterRng::normal() {
  const double radius = std::sqrt(-2 * std::log(1 - uniform()));  // 1 - uniform() > 0
  return radius * std::cos(2 * std::numbers::pi * uniform());
}

std::vector<int64_t> permutation(int64_t n, CounterRng& rng) {
  std::vector<int64_t> order(n);
  std::iota(order.begin(), order.end(), 0);
  for (int64_t i = n; i > 1; --i) std::swap(order[i - 1], order[rng.below(i)]);
  return order;
}

}  // namespace quench
