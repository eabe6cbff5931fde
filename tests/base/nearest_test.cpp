#include "base/nearest.h"

#include <gtest/gtest.h>

namespace quench {
namespace {

TEST(Nearest, FindsTheNameBehindATypo) {
  const std::vector<std::string> known = {"hidden_size", "hidden_act", "num_hidden_layers"};
  EXPECT_EQ(nearest("hidden_sise", known), "hidden_size");
  EXPECT_EQ(nearest("hiden_atc", known), "hidden_act");
  EXPECT_EQ(nearest("num_hiddenlayer", known), "num_hidden_layers");
}

TEST(Nearest, IgnoresCase) { EXPECT_EQ(nearest("BERT", {"opt", "bert"}), "bert"); }

TEST(Nearest, FindsNothingWhenAllNamesAreFar) {
  EXPECT_EQ(nearest("colour", {"hidden_size", "bits"}), std::nullopt);
  EXPECT_EQ(nearest("bits", {}), std::nullopt);
  // A word of four letters may differ in two of them, not in three.
  EXPECT_EQ(nearest("bits", {"bats"}), "bats");
  EXPECT_EQ(nearest("bits", {"bxxs"}), "bxxs");
  EXPECT_EQ(nearest("bits", {"bxxx"}), std::nullopt);
}

TEST(Nearest, TakesTheFirstOfEquals) { EXPECT_EQ(nearest("bat", {"cat", "bar"}), "cat"); }

TEST(Nearest, SaysItInAMessage) {
  EXPECT_EQ(did_you_mean("admw", {"sgd", "adamw"}), "; did you mean 'adamw'?");
  EXPECT_EQ(did_you_mean("lion", {"sgd", "adamw"}), "");
}

}  // namespace
}  // namespace quench
