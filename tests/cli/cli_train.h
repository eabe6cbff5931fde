// What the tests of quench train share.
#pragma once

#include <ATen/ATen.h>

#include "tests/cli/cli_test.h"
#include "tests/data/sample_text.h"

namespace quench {

class CliTrain : public CliTest {
 protected:
  // Step -> line of metrics.jsonl, of training only.
  std::vector<std::pair<int64_t, double>> losses(const std::string& run) const {
    std::vector<std::pair<int64_t, double>> result;
    std::istringstream lines(folder_.read(run + "/metrics.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      const Json json = parse_json(line);
      if (json.contains("loss")) result.emplace_back(json.at("step"), json.at("loss"));
    }
    return result;
  }
  void expect_same_bytes(const std::string& a, const std::string& b) const {
    for (const char* file :
         {"model.safetensors", "training.safetensors", "state.json", "config.json"}) {
      EXPECT_NE(folder_.read(a + "/" + file), "") << file;
      EXPECT_TRUE(folder_.read(a + "/" + file) == folder_.read(b + "/" + file)) << file;
    }
  }
  // Sends `signal` once `condition` holds.
  template <class Condition>
  Outcome stopped_by(int signal, const std::vector<std::string>& arguments,
                     const Condition& condition) {
    const pid_t child = start(arguments);
    wait_until(child, condition);
    ::kill(child, signal);
    return finish(child);
  }
  // A run that is long enough to be stopped on its way.
  Outcome stopped_by(int signal) {
    return stopped_by(signal,
                      {"train", "tiny.yaml", "--output", "run", "--set", "train.steps=1000000",
                       "--set", "train.checkpoint_every=0"},
                      [&] { return logged("run", "\n"); });
  }
  bool logged(const std::string& run, const std::string& text) const {
    return folder_.read(run + "/metrics.jsonl").find(text) != std::string::npos;
  }
  // An evaluation by single samples takes minutes.
  void make_validation_long() const {
    const at::Tensor ids = at::ones({1 << 18, kLength}, at::kLong);
    write_safetensors(folder_ / "validation.safetensors", {{"input_ids", ids}, {"labels", ids}});
  }
  // text.yaml on many megabytes of text.
  void write_long_text() const {
    std::string text, all;
    for (const std::string& line : sample_lines(20000)) text += line + "\n";
    for (int i = 0; i < 24; ++i) all += text;
    folder_.write("a.txt", all);
    folder_.write("text.yaml", "model: {type: bert}\ndata: {type: text, files: [a.txt]}\n");
  }
};

}  // namespace quench
