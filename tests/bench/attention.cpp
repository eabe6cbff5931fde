// Time and memory of one layer's attention, forward and backward, clipped softmax and dropout, in
// the sizes of OPT-125m: composite (all T x T tensors kept for the backward pass), blocked (a block
// of queries at a time, formed again) and, where there are kernels, fused. For each length and mask
// one line of JSON a path, with its greatest differences from composite; a table of all at the end.
//
// A process for each path's memory, that nothing else has touched; one more for the times, in which
// the paths take turns.
#include <ATen/ATen.h>
#include <malloc.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "attention/blocked.h"
#include "attention/fused.h"
#include "attention/mask.h"
#include "attention/normalizers/softmax.h"
#include "base/json.h"
#include "device/device.h"
#include "nn/dropout.h"

namespace quench {
namespace {

struct Options {
  int64_t batch = 2, heads = 12, head_size = 64, rounds = 5;
  std::vector<int64_t> lengths = {512, 2048};
  double dropout = 0.1;
  std::string device = "cpu", precision = "fp32";
};

at::ScalarType dtype_of(const std::string& precision) {
  if (precision == "bf16") return at::kBFloat16;
  return precision == "fp16" ? at::kHalf : at::kFloat;
}

// As Attention::composite(), with the dropout masks of the other two.
at::Tensor composite_attention(const at::Tensor& qkv, const AttentionMask& mask,
                               const AttentionOptions& o) {
  const at::Tensor heads = qkv.unflatten(-1, {3, o.heads, -1}).permute({2, 0, 3, 1, 4});
  const double scale = 1 / std::sqrt(static_cast<double>(heads.size(-1)));
  const at::Tensor scores = at::matmul(heads[0] * scale, heads[1].transpose(-1, -2));
  at::Tensor probs = o.normalizer(mask_scores(scores, mask), Taps());
  if (o.dropout > 0) probs = dropout_rows(probs, o.dropout, o.site, {0, qkv.size(1), qkv.size(1)});
  return at::matmul(probs, heads[2]).transpose(1, 2).flatten(-2);
}

double max_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kFloat) - b.to(at::kFloat)).abs().max().item<double>();
}

// One layer on its device.
class Layer {
 public:
  Layer(const Options& o, int64_t length, bool padded) : device_(choose_device(o.device)) {
    const auto normalizer = std::make_shared<ClippedSoftmax>();
    normalizer->alpha = 12;
    Parameters none;
    options_ = {
        normalizer->add(none, {"", o.heads, o.head_size, length}), {}, o.heads, o.dropout, {1, 0}};
    const int64_t width = o.heads * o.head_size;
    const auto random = [&](int64_t columns) {
      return at::randn({o.batch, length, columns}).to(device_, dtype_of(o.precision));
    };
    at::manual_seed(1);  // the same inputs in every process
    qkv_ = random(3 * width).requires_grad_();
    upstream_ = random(width);
    mask_.causal = true;
    if (!padded) return;
    mask_.keys = at::ones({o.batch, length}, at::kBool);
    mask_.keys.narrow(1, length - length / 8, length / 8).fill_(false);
    mask_.keys = mask_.keys.to(device_);
  }

  std::vector<std::string> paths() const {
    std::vector<std::string> paths{"composite", "blocked"};
    if (fused_attention_takes(qkv_, *options_.normalizer.row)) paths.emplace_back("fused");
    return paths;
  }

  // What a training takes, with this path or, where it has no choice, all rows at once.
  int64_t block_rows() const {
    return attention_block_rows(qkv_, options_.heads).value_or(qkv_.size(1));
  }

  at::Tensor forward(const std::string& path) const {
    if (path == "composite") return composite_attention(qkv_, mask_, options_);
    if (path == "blocked") return blocked_attention(qkv_, mask_, options_, block_rows());
    return fused_attention(
        qkv_, mask_.keys,
        {options_.heads, mask_.causal, options_.normalizer.row, options_.dropout, options_.site});
  }

  // The gradient of qkv.
  at::Tensor backward(const at::Tensor& context) {
    context.backward(upstream_);
    const at::Tensor gradient = qkv_.grad();
    qkv_.mutable_grad().reset();
    return gradient;
  }

  // By path, the greatest difference from composite: of the context, of the gradient. Where a
  // probability lies within rounding of the clip's edge, one path clips it and another does not:
  // the gradients of one query and one key then differ by far more than rounding.
  Json differences() {
    const at::Tensor context = forward("composite"), gradient = backward(context);
    Json answer = Json::object();
    for (const std::string& path : paths()) {
      const at::Tensor other = forward(path);
      answer[path] = {max_difference(other.detach(), context.detach()),
                      max_difference(backward(other), gradient)};
    }
    return answer;
  }

  double seconds(const std::string& path) {
    synchronize(device_);
    const auto begin = std::chrono::steady_clock::now();
    backward(forward(path));
    synchronize(device_);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }

  at::Device device() const { return device_; }

 private:
  at::Device device_;
  AttentionOptions options_;
  AttentionMask mask_;
  at::Tensor qkv_, upstream_;
};

// Bytes that are in use now, and the most that were. On a CPU the peak is of resident memory.
class Memory {
 public:
  explicit Memory(at::Device device) : device_(device) {}

  int64_t used() const {
    synchronize(device_);
    if (!device_.is_cpu()) {
      reset_peak_memory(device_);
      return peak_memory(device_);
    }
    const struct mallinfo2 info = mallinfo2();
    return static_cast<int64_t>(info.uordblks + info.hblkhd);
  }
  int64_t resident() const {
    if (!device_.is_cpu()) return used();
    int64_t total = 0, pages = 0;
    std::ifstream("/proc/self/statm") >> total >> pages;
    return pages * sysconf(_SC_PAGESIZE);
  }
  int64_t peak() const {
    synchronize(device_);
    if (!device_.is_cpu()) return peak_memory(device_);
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return int64_t{usage.ru_maxrss} << 10;
  }

 private:
  at::Device device_;
};

double megabytes(int64_t bytes) {
  return std::round(static_cast<double>(bytes) / (1 << 20) * 10) / 10;
}

// What the forward pass leaves for the backward pass, and the peak of both, beside the inputs.
Json memory_of(const Options& o, int64_t length, bool padded, const std::string& path) {
  Options small = o;
  small.batch = 1;
  Layer(small, 16, padded).seconds(path);  // libraries and kernels are loaded
  Layer layer(o, length, padded);
  const Memory memory(layer.device());
  const int64_t resident = memory.resident(), used = memory.used();
  const at::Tensor context = layer.forward(path);
  const int64_t forward_peak = memory.peak();  // before used(), which begins a new one on a device
  const int64_t kept = memory.used() - used;
  layer.backward(context);
  return {{"kept_mb", megabytes(kept)},
          {"peak_mb", megabytes(std::max(forward_peak, memory.peak()) - resident)}};
}

// Milliseconds by path: least, median, most.
Json times_of(const Options& o, int64_t length, bool padded) {
  Layer layer(o, length, padded);
  std::map<std::string, std::vector<double>> times;
  Json answer = {{"block_rows", layer.block_rows()},
                 {"differences", layer.differences()},
                 {"ms", Json::object()}};
  for (int64_t round = -1; round < o.rounds; ++round)  // the first one warms up
    for (const std::string& path : layer.paths()) {
      const double ms = std::round(1e6 * layer.seconds(path)) / 1e3;
      if (round >= 0) times[path].push_back(ms);
    }
  for (const std::string& path : layer.paths()) {
    std::ranges::sort(times[path]);
    answer["ms"][path] = {times[path].front(), times[path][times[path].size() / 2],
                          times[path].back()};
  }
  return answer;
}

// The answer of `question` in a process of its own, or what went wrong as {"failed": reason}.
Json in_a_process(const std::function<Json()>& question) {
  int ends[2];
  if (pipe(ends) != 0) return {{"failed", "no pipe"}};
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    Json answer;
    try {
      answer = question();
    } catch (const std::exception& error) {
      answer = {{"failed", std::string(error.what()).substr(0, 150)}};
    }
    const std::string text = dump(answer);
    const bool written =
        write(ends[1], text.data(), text.size()) == static_cast<ssize_t>(text.size());
    _exit(written ? 0 : 1);
  }
  close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t size; (size = read(ends[0], buffer, sizeof buffer)) > 0;)
    text.append(buffer, static_cast<size_t>(size));
  close(ends[0]);
  int status = 0;
  waitpid(child, &status, 0);
  if (text.empty()) return {{"failed", "the process ended (out of memory?)"}};
  return parse_json(text);
}

// Prints the rows of one length and mask, and adds them to `rows`.
void measure(const Options& o, int64_t length, bool padded, std::vector<Json>& rows) {
  const Json times = in_a_process([&] { return times_of(o, length, padded); });
  const Json none = {{"composite", nullptr}, {"blocked", nullptr}};
  const Json by_path = times.value("ms", none);
  for (const auto& [path, ms] : by_path.items()) {
    Json row = {{"length", length},
                {"mask", padded ? "causal, keys" : "causal"},
                {"path", path},
                {"batch", o.batch},
                {"device", o.device},
                {"precision", o.precision},
                {"ms", ms}};
    if (path == "blocked" && times.contains("block_rows")) row["block_rows"] = times["block_rows"];
    if (times.contains("differences")) row["differences"] = times["differences"][path];
    if (times.contains("failed")) row["times_failed"] = times["failed"];
    row.update(in_a_process([&] { return memory_of(o, length, padded, path); }));
    std::cout << dump(row) << std::endl;
    rows.push_back(row);
  }
}

void print_table(const std::vector<Json>& rows) {
  std::printf("%6s %-12s %-10s %10s %10s %10s %9s %9s\n", "length", "mask", "path", "ms", "kept MB",
              "peak MB", "d context", "d grad");
  for (const Json& row : rows) {
    const auto number = [&](const std::string& pointer) {
      const Json value = row.value(Json::json_pointer(pointer), Json());
      return value.is_number() ? value.get<double>() : std::nan("");  // it failed
    };
    std::printf("%6.0f %-12s %-10s %10.1f %10.1f %10.1f %9.1e %9.1e\n", number("/length"),
                row["mask"].get<std::string>().c_str(), row["path"].get<std::string>().c_str(),
                number("/ms/1"), number("/kept_mb"), number("/peak_mb"), number("/differences/0"),
                number("/differences/1"));
  }
}

}  // namespace
}  // namespace quench

int main(int argc, char** argv) {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);  // as the quench program does
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_TOP_PAD, 256 << 20);
  quench::Options o;
  CLI::App app{"time and memory of one layer's attention, by path"};
  app.add_option("--batch", o.batch);
  app.add_option("--heads", o.heads);
  app.add_option("--head-size", o.head_size);
  app.add_option("--lengths", o.lengths)->delimiter(',');
  app.add_option("--dropout", o.dropout);
  app.add_option("--device", o.device);
  app.add_option("--precision", o.precision);
  app.add_option("--rounds", o.rounds);
  CLI11_PARSE(app, argc, argv);
  std::vector<quench::Json> rows;
  for (const int64_t length : o.lengths)
    for (const bool padded : {false, true}) quench::measure(o, length, padded, rows);
  quench::print_table(rows);
}
