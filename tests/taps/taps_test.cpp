#include "taps/taps.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

namespace quench {
namespace {

// Listens to one tap, notes what it sees and adds `shift` to it.
class Shift : public TapListener {
 public:
  Shift(std::string tap, double shift) : tap_(std::move(tap)), shift_(shift) {}

  bool wants(const std::string& name) const override { return name == tap_; }
  at::Tensor activation(const std::string& name, const at::Tensor& x) override {
    names.push_back(name);
    seen.push_back(x.item<double>());
    return x + shift_;
  }
  at::Tensor weight(const std::string& name, const at::Tensor& w) override {
    names.push_back(name);
    return w * shift_;
  }

  std::vector<std::string> names;
  std::vector<double> seen;

 private:
  std::string tap_;
  double shift_;
};

TEST(Taps, AreTheIdentityUntilSomethingListens) {
  const at::Tensor x = at::ones({2});
  EXPECT_FALSE(Taps().listening());
  EXPECT_FALSE(Taps().wanted("layers.0.", "output"));
  EXPECT_TRUE(Taps()("layers.0.", "output", x).is_same(x));
  EXPECT_TRUE(Taps().weight("w", x).is_same(x));
}

TEST(Taps, ReachOnlyTheListenersThatWantThem) {
  Shift listener("layers.0.output", 1);
  const Taps taps({&listener});
  const at::Tensor x = at::zeros({});
  EXPECT_TRUE(taps.wanted("layers.0.", "output"));
  EXPECT_FALSE(taps.wanted("layers.1.", "output"));
  EXPECT_TRUE(taps("layers.1.", "output", x).is_same(x));
  EXPECT_EQ(taps("layers.0.", "output", x).item<double>(), 1);
  EXPECT_EQ(listener.names, std::vector<std::string>{"layers.0.output"});
}

TEST(Taps, EveryListenerSeesWhatTheOneBeforeItLetThrough) {
  Shift first("logits", 1), deaf("scores", 10), second("logits", 100);
  const Taps taps({&first, &deaf, &second});
  EXPECT_EQ(taps("", "logits", at::zeros({})).item<double>(), 101);
  EXPECT_EQ(first.seen, std::vector<double>{0});
  EXPECT_TRUE(deaf.seen.empty());
  EXPECT_EQ(second.seen, std::vector<double>{1});
}

TEST(Taps, WeightsPassEveryListenerInTurn) {
  Shift first("", 2), second("", 5);
  EXPECT_EQ(Taps({&first, &second}).weight("q.weight", at::ones({})).item<double>(), 10);
  EXPECT_EQ(second.names, std::vector<std::string>{"q.weight"});
}

TEST(Taps, AListenerReplacesWeightsUnlessItSaysOtherwise) {
  struct Watcher : Shift {
    using Shift::Shift;
    bool replaces_weights() const override { return false; }
  };
  Shift shift("", 2);
  Watcher watcher("", 5);
  EXPECT_FALSE(Taps().replaces_weights());
  EXPECT_FALSE(Taps({&watcher}).replaces_weights());
  EXPECT_TRUE(Taps({&watcher, &shift}).replaces_weights());
}

TEST(Taps, ALayersOutputIsToldFromThatOfItsBlocks) {
  EXPECT_TRUE(is_layer_output("layers.11.output"));
  for (const char* other : {"layers.11.ffn.output", "layers.11.attention.norm", "final_norm"})
    EXPECT_FALSE(is_layer_output(other)) << other;
}

}  // namespace
}  // namespace quench
