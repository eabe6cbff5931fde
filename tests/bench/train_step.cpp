// Training steps of quench, on command: the C++ side of scripts/bench/train_step.py and of
// scripts/gpu/speed.py, which run its Python peers beside it. Reads lines from stdin: `step [N]` (N
// whole training steps), `products` (a step's matrix products alone, on the CPU), `profile N`,
// `memory`, `quit`; answers each with one line of JSON.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <malloc.h>
#include <sys/resource.h>

#include <torch/csrc/autograd/profiler_kineto.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <set>
#include <sstream>

#include "config/fields.h"
#include "device/device.h"
#include "nn/linear_map.h"
#include "train/session.h"
#include "train/trainer.h"

namespace quench {
namespace {

struct Options {
  std::string model = "bert", attention = "vanilla";
  int64_t batch = 8, length = 128, layers = 12, hidden = 768, heads = 12, ffn = 3072, vocab = 30522;
  double dropout = 0.1;
  std::string device = "cpu", precision = "fp32";
  bool serve = false;
};

Json attention_section(const Options& o) {
  if (o.attention == "clipped" && o.model == "opt")
    return {{"softmax", {{"type", "clipped"}, {"alpha", 12}}}};
  if (o.attention == "clipped") return {{"softmax", {{"type", "clipped"}, {"gamma", -0.025}}}};
  if (o.attention == "gated_mlp") return {{"gate", {{"type", "mlp"}}}};
  if (o.attention == "gated_linear") return {{"gate", {{"type", "linear"}, {"init", 0.25}}}};
  return Json::object();
}

Json model_section(const Options& o) {
  Json m = {{"type", o.model},
            {"hidden_size", o.hidden},
            {"num_hidden_layers", o.layers},
            {"num_attention_heads", o.heads}};
  if (o.model == "opt") {
    m.update({{"vocab_size", o.vocab},
              {"ffn_dim", o.ffn},
              {"dropout", o.dropout},
              {"max_position_embeddings", o.length}});
  } else {
    m.update({{"intermediate_size", o.ffn},
              {"hidden_dropout_prob", o.dropout},
              {"attention_probs_dropout_prob", o.dropout}});
    if (o.model == "vit") m.update({{"num_labels", o.vocab}, {"image_size", o.length}});
    if (o.model == "bert")
      m.update({{"vocab_size", o.vocab}, {"max_position_embeddings", o.length}});
  }
  return m;
}

Batch random_batch(const Options& o) {
  Batch batch;
  if (o.model == "vit") {
    batch.pixel_values = at::randn({o.batch, 3, o.length, o.length});
    batch.labels = at::randint(o.vocab, {o.batch}, at::kLong);
    return batch;
  }
  batch.input_ids = at::randint(5, o.vocab, {o.batch, o.length}, at::kLong);
  batch.labels = batch.input_ids;
  if (o.model == "bert") {
    batch.labels = batch.input_ids.masked_fill(at::rand({o.batch, o.length}) > 0.15, -100);
    batch.label_positions = (batch.labels.flatten() != -100).nonzero().squeeze(1);
  }
  return batch;
}

// The products of one step, forward and backward, each with operands of its own shape.
class Products {
 public:
  Products(const Options& o, const Batch& batch) {
    const bool vit = o.model == "vit";
    const int64_t length = vit ? (o.length / 16) * (o.length / 16) + 1 : o.length,
                  rows = o.batch * length;
    const int64_t d = o.hidden, head = d / o.heads;
    // As Bert::forward fills them up.
    const int64_t labelled = o.model == "bert" ? (batch.label_positions.size(0) + 15) / 16 * 16 : 0;
    for (int64_t i = 0; i < o.layers; ++i) {
      linear(rows, d, 3 * d);
      // What the loss does not look at, the last layer leaves out.
      const int64_t needed = i + 1 < o.layers    ? rows
                             : vit               ? o.batch
                             : o.model == "bert" ? labelled
                                                 : rows;
      for (const auto& [in, out] : {std::pair{d, d}, {d, o.ffn}, {o.ffn, d}})
        linear(needed, in, out);
      for (int repeat = 0; repeat < 2; ++repeat) {
        batched(o.batch * o.heads, length, head, length);  // scores, and d probs
        batched(o.batch * o.heads, length, length, head);  // context, and d query
        batched(o.batch * o.heads, length, length, head);  // d key, d value
      }
    }
    if (vit) linear(rows, 3 * 16 * 16, d);
    if (o.model == "bert") {
      linear(labelled, d, d);
      lm_head(labelled, d, o.vocab);
    }
    if (o.model == "opt") lm_head(o.batch * (length - 1), d, o.vocab);
  }

  void run() const {
    for (const auto& product : products_) product();
  }

 private:
  const at::Tensor& buffer(std::vector<int64_t> shape) {
    at::Tensor& x = buffers_[shape];
    if (!x.defined()) x = at::randn(shape);
    return x;
  }
  void linear(int64_t rows, int64_t in, int64_t out) {
    const at::Tensor x = buffer({rows, in}), w = buffer({out, in}), g = buffer({rows, out});
    products_.emplace_back([=] { linear_map(x, w); });
    gradients(x, w, g);
  }
  // In the chunks and blocks of nn/linear_cross_entropy.cpp.
  void lm_head(int64_t rows, int64_t in, int64_t vocab) {
    for (int64_t begin = 0; begin < rows; begin += 512) {
      const int64_t size = std::min<int64_t>(512, rows - begin), step = (1 << 21) / size;
      const at::Tensor x = buffer({size, in}), w = buffer({vocab, in});
      products_.emplace_back([=] { linear_map(x, w); });
      for (int64_t first = 0; first < vocab; first += step) {
        const int64_t columns = std::min(step, vocab - first);
        gradients(x, w.narrow(0, first, columns), buffer({size, columns}));
      }
    }
  }
  void gradients(const at::Tensor& x, const at::Tensor& w, const at::Tensor& g) {
    products_.emplace_back([=] { linear_map_input_gradient(g, w); });
    products_.emplace_back([=] { linear_map_weight_gradient(g, x); });
  }
  void batched(int64_t n, int64_t rows, int64_t inner, int64_t columns) {
    const at::Tensor a = buffer({n, rows, inner}), b = buffer({n, inner, columns}),
                     c = buffer({n, rows, columns});
    products_.emplace_back([=] {
      at::Tensor out = c;
      at::bmm_out(out, a, b);
    });
  }
  std::map<std::vector<int64_t>, at::Tensor> buffers_;
  std::vector<std::function<void()>> products_;
};

// What LibTorch's profiler saw of some steps: where their time went.
class Profile {
 public:
  Profile(double steps, at::Device device) : steps_(steps), device_(device) {}

  void add(const torch::autograd::profiler::KinetoEvent& event) {
    const std::string name = event.name();
    const bool on_device = event.deviceType() != c10::DeviceType::CPU;
    if (!on_device && (name == "cudaStreamSynchronize" || name == "cudaDeviceSynchronize" ||
                       name == "cudaEventSynchronize" || name == "cudaMemcpy"))
      waits_[name] += 1;
    if (!on_device && name.starts_with("cu") && name.find("LaunchKernel") != std::string::npos)
      ++launches_;
    if (on_device == device_.is_cpu()) return;
    if (device_.is_cpu() ? !name.starts_with("aten::") : name.starts_with("ProfilerStep")) return;
    Kernel& kernel = kernels_[name];
    ++kernel.calls;
    kernel.nanoseconds += static_cast<double>(event.durationNs());
    intervals_.emplace_back(event.startNs(), event.endNs());
  }

  Json to_json(double seconds) {
    const double milliseconds = 1e-6 / steps_, wall = 1e3 * seconds / steps_;
    std::vector<std::pair<std::string, Kernel>> sorted(kernels_.begin(), kernels_.end());
    std::ranges::sort(sorted, [](const auto& a, const auto& b) {
      return a.second.nanoseconds > b.second.nanoseconds;
    });
    Json list = Json::array();
    double all = 0;
    for (const auto& [name, kernel] : sorted) {
      all += kernel.nanoseconds;
      if (list.size() < 20)
        list.push_back({{"name", name.substr(0, 110)},
                        {"calls", kernel.calls / steps_},
                        {"ms", kernel.nanoseconds * milliseconds}});
    }
    const double busy = union_of_intervals() * milliseconds;
    double waits = device_.is_cpu() ? 0 : -1;  // the bench's own, at the end
    for (const auto& [name, count] : waits_) waits += count;
    return {{"wall_ms", wall},
            {"kernel_ms", all * milliseconds},
            {"busy_ms", busy},
            {"gaps_ms", wall - busy},
            {"launches", launches_ / steps_},
            {"synchronizations_per_step", waits / steps_},
            {"waits", waits_},
            {"kernels", list}};
  }

 private:
  struct Kernel {
    double calls = 0, nanoseconds = 0;
  };

  double union_of_intervals() {
    std::ranges::sort(intervals_);
    uint64_t end = 0, total = 0;
    for (const auto& [from, to] : intervals_) {
      total += to > end ? to - std::max(from, end) : 0;
      end = std::max(end, to);
    }
    return static_cast<double>(total);
  }

  double steps_;
  at::Device device_;
  std::map<std::string, Kernel> kernels_;
  std::map<std::string, int64_t> waits_;
  double launches_ = 0;
  std::vector<std::pair<uint64_t, uint64_t>> intervals_;
};

class Clock {
 public:
  double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

 private:
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

// A training on one batch that lies on its device.
class Server {
 public:
  explicit Server(const Options& o)
      : options_(o), config_(config_of(o)), device_(choose_device(o.device)) {
    const Batch batch = random_batch(o);
    OpenedData data;
    data.max_seq_length = o.model == "vit" ? 0 : o.length;
    pretrained_ = build_model(config_, data);
    session_ = std::make_unique<TrainingSession>(config_, pretrained_, device_);
    if (device_.is_cpu()) products_ = std::make_unique<Products>(o, batch);
    batch_ = batch.to(device_);
  }

  Json answer(const std::string& question, int64_t count) {
    if (question == "step") return steps(count);
    if (question == "products") return products();
    if (question == "profile") return profile(count);
    return memory();
  }

 private:
  static RunConfig config_of(const Options& o) {
    RunConfig config;
    const Json sections = {{"model", model_section(o)}, {"attention", attention_section(o)}};
    config::read(config::parse(dump(sections), {"bench", 1}), config);
    config.precision = o.precision;
    return config;
  }

  // One after the other, without waiting for the device in between.
  Json steps(int64_t count) {
    synchronize(device_);
    const Clock clock;
    const at::Tensor loss = run(count);
    const double seconds = clock.seconds();
    return {{"seconds", seconds}, {"loss", loss.item<double>()}};
  }

  // Until the device is done. The last loss.
  at::Tensor run(int64_t count) {
    at::Tensor loss;
    for (int64_t i = 0; i < count; ++i) loss = session_->step([&] { return batch_; }).loss;
    synchronize(device_);
    return loss;
  }

  Json products() const {
    const at::NoGradGuard no_grad;
    const Clock clock;
    products_->run();
    return {{"seconds", clock.seconds()}};
  }

  Json memory() const {
    if (!device_.is_cpu())
      return {{"peak_memory_mb", static_cast<double>(peak_memory(device_)) / (1 << 20)}};
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    return {{"peak_rss_mb", static_cast<double>(usage.ru_maxrss) / 1024}};
  }

  Json profile(int64_t count) {
    using namespace torch::profiler::impl;
    std::set<ActivityType> activities{ActivityType::CPU};
    if (!device_.is_cpu()) activities.insert(ActivityType::CUDA);
    const ProfilerConfig config(ProfilerState::KINETO);
    synchronize(device_);
    torch::autograd::profiler::prepareProfiler(config, activities);
    torch::autograd::profiler::enableProfiler(config, activities, {at::RecordScope::FUNCTION});
    const Clock clock;
    run(count);
    const double seconds = clock.seconds();
    const auto trace = torch::autograd::profiler::disableProfiler();
    Profile profile(static_cast<double>(count), device_);
    for (const auto& event : trace->events()) profile.add(event);
    return profile.to_json(seconds);
  }

  Options options_;
  RunConfig config_;
  at::Device device_;
  Pretrained pretrained_;
  std::unique_ptr<TrainingSession> session_;
  std::unique_ptr<Products> products_;
  Batch batch_;
};

void serve(const Options& o) {
  Server server(o);
  std::cout << "ready" << std::endl;
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    std::istringstream words(line);
    std::string question;
    int64_t count = 1;
    words >> question >> count;
    std::cout << dump(server.answer(question, question == line ? 1 : count)) << std::endl;
  }
}

}  // namespace
}  // namespace quench

int main(int argc, char** argv) {
  mallopt(M_MMAP_THRESHOLD, 1 << 30);  // as the quench program does
  mallopt(M_TRIM_THRESHOLD, -1);
  mallopt(M_TOP_PAD, 256 << 20);
  quench::Options o;
  CLI::App app{"one training step, on command"};
  app.add_option("--model", o.model);
  app.add_option("--attention", o.attention);
  app.add_option("--batch", o.batch);
  app.add_option("--length", o.length);
  app.add_option("--layers", o.layers);
  app.add_option("--hidden", o.hidden);
  app.add_option("--heads", o.heads);
  app.add_option("--ffn", o.ffn);
  app.add_option("--vocab", o.vocab);
  app.add_option("--dropout", o.dropout);
  app.add_option("--device", o.device);
  app.add_option("--precision", o.precision);
  app.add_flag("--serve", o.serve);
  CLI11_PARSE(app, argc, argv);
  quench::serve(o);
}
