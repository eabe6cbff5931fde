// A folder of tokenizer files that a test writes, and the samples in tests/golden/tokenizers.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "data/tokenizer.h"
#include "io/atomic_file.h"

namespace quench {

class HfFolder {
 public:
  explicit HfFolder(const std::map<std::string, std::string>& files) {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    path_ = std::filesystem::path(testing::TempDir()) /
            (std::string("quench-") + test->test_suite_name() + "-" + test->name());
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
    for (const auto& [name, content] : files) std::ofstream(path_ / name) << content;
  }
  ~HfFolder() { std::filesystem::remove_all(path_); }
  HfFolder(const HfFolder&) = delete;
  HfFolder& operator=(const HfFolder&) = delete;

  std::string operator/(const std::string& name) const { return path_ / name; }

 private:
  std::filesystem::path path_;
};

inline std::filesystem::path golden_tokenizers() {
  return std::filesystem::path(QUENCH_TESTS_DIR) / "golden" / "tokenizers";
}

// What Hugging Face's tokenizer `name` made of each of the texts.
inline void expect_golden_ids(const Tokenizer& tokenizer, const std::string& name) {
  const Json samples = parse_json(read_file(golden_tokenizers() / "samples.json"));
  for (size_t i = 0; i < samples["texts"].size(); ++i) {
    const auto text = samples["texts"][i].get<std::string>();
    EXPECT_EQ(tokenizer.encode(text), samples["ids"][name][i].get<std::vector<int32_t>>()) << text;
  }
}

}  // namespace quench
