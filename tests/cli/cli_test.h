// Runs the quench program itself, in a folder of the test's own with a tiny model's config and data
// in it.
#pragma once

#include <ATen/ATen.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "base/json.h"
#include "io/safetensors.h"
#include "tests/data/scratch.h"

namespace quench {

struct Outcome {
  int status = 0;  // as a shell gives it: 128 + the signal that ended the process
  std::string out, err;
};

class CliTest : public testing::Test {
 protected:
  static constexpr int64_t kLength = 8, kVocabulary = 32;

  CliTest() {
    for (const auto& [name, count] : {std::pair{"train", 16}, {"validation", 6}}) {
      const at::Tensor ids = (at::arange(count * kLength, at::kLong) * 37 + 11)
                                 .remainder(kVocabulary)
                                 .view({count, kLength});
      const at::Tensor labelled =
          at::arange(count * kLength, at::kLong).remainder(3).eq(0).view({count, kLength});
      write_safetensors(folder_ / concat(name, ".safetensors"),
                        {{"input_ids", ids}, {"labels", at::where(labelled, ids, -100)}});
    }
    folder_.write("tiny.yaml", kModel + kRest);
  }

  // Starts `quench arguments...` in the test's folder. It ends by itself after two minutes.
  pid_t start(std::vector<std::string> arguments, const std::string& input = "") {
    folder_.write("stdin", input);
    arguments.insert(arguments.begin(), QUENCH_EXECUTABLE);
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    const std::string in = folder_ / "stdin", out = folder_ / "stdout", err = folder_ / "stderr",
                      at = folder_ / "";
    const pid_t child = ::fork();
    if (child != 0) return child;
    ::alarm(120);
    ::dup2(::open(in.c_str(), O_RDONLY), 0);
    ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), 1);
    ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644), 2);
    ::setenv("QUENCH_CACHE", "cache", 1);
    ::setenv("OMP_NUM_THREADS", "1", 1);
    if (::chdir(at.c_str()) == 0) ::execv(argv[0], argv.data());
    ::_exit(127);
  }
  Outcome finish(pid_t child) const {
    int status = 0;
    ::waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
            folder_.read("stdout"), folder_.read("stderr")};
  }
  Outcome quench(std::vector<std::string> arguments, const std::string& input = "") {
    return finish(start(std::move(arguments), input));
  }
  // The same, and it must succeed.
  std::string done(std::vector<std::string> arguments, const std::string& input = "") {
    const Outcome outcome = quench(std::move(arguments), input);
    EXPECT_EQ(outcome.status, 0) << outcome.err;
    return outcome.out;
  }

  // Waits until `condition` holds or the process has ended.
  template <class Condition>
  void wait_until(pid_t child, const Condition& condition) const {
    while (!condition()) {
      siginfo_t ended{};
      ::waitid(P_PID, static_cast<id_t>(child), &ended, WEXITED | WNOHANG | WNOWAIT);
      ASSERT_EQ(ended.si_pid, 0) << "ended too early: " << folder_.read("stderr");
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
  }

  bool exists(const std::string& name) const { return std::filesystem::exists(folder_ / name); }
  // The folder of a run's newest checkpoint.
  std::string newest(const std::string& run) const {
    std::string name = folder_.read(run + "/checkpoints/latest");
    return run + "/checkpoints/" + name.substr(0, name.find('\n'));
  }
  Json json(const std::string& name) const { return parse_json(folder_.read(name)); }

  const std::string kModel =
      "model:\n"
      "  type: bert\n"
      "  vocab_size: 32\n"
      "  hidden_size: 16\n"
      "  num_hidden_layers: 2\n"
      "  num_attention_heads: 2\n"
      "  intermediate_size: 32\n"
      "  max_position_embeddings: 8\n";
  const std::string kRest =
      "data: {type: tensors, train: train.safetensors, validation: validation.safetensors}\n"
      "optimizer: {learning_rate: 0.001}\n"
      "train: {steps: 4, batch_size: 4, log_every: 1, checkpoint_every: 2}\n"
      "eval: {batch_size: 4}\n"
      "ptq: {calibration: {batches: 2, batch_size: 4}, evaluation: {batch_size: 4}}\n";

  Scratch folder_;
};

}  // namespace quench
