// One training step of quench, on command: the C++ side of scripts/bench/train_step.py, which runs
// its Python peers beside it. Reads lines from stdin: `step` (a whole training step), `products`
// (its matrix products alone), `memory`, `quit`; answers each with one line of JSON.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <malloc.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <functional>
#include <iostream>

#include "config/fields.h"
#include "nn/linear_map.h"
#include "train/session.h"
#include "train/trainer.h"

namespace quench {
namespace {

struct Options {
  std::string model = "bert", attention = "vanilla";
  int64_t batch = 8, length = 128, layers = 12, hidden = 768, heads = 12, ffn = 3072, vocab = 30522;
  double dropout = 0.1;
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

void serve(const Options& o) {
  RunConfig config;
  Json sections = {{"model", model_section(o)}, {"attention", attention_section(o)}};
  config::read(config::parse(dump(sections), {"bench", 1}), config);
  const Batch batch = random_batch(o);
  Pretrained pretrained =
      build_model(config, {nullptr, nullptr, o.model == "vit" ? 0 : o.length, 0});
  TrainingSession session(config, pretrained, at::kCPU);
  const Products products(o, batch);
  std::cout << "ready" << std::endl;
  for (std::string line; std::getline(std::cin, line) && line != "quit";) {
    Json answer;
    const auto begin = std::chrono::steady_clock::now();
    const auto seconds = [&] {
      return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    };
    if (line == "step") {
      const double loss = session.step([&] { return batch; }).loss.item<double>();
      answer = {{"seconds", seconds()}, {"loss", loss}};
    } else if (line == "products") {
      at::NoGradGuard no_grad;
      products.run();
      answer = {{"seconds", seconds()}};
    } else {
      rusage usage{};
      getrusage(RUSAGE_SELF, &usage);
      answer = {{"peak_rss_mb", static_cast<double>(usage.ru_maxrss) / 1024}};
    }
    std::cout << dump(answer) << std::endl;
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
  app.add_flag("--serve", o.serve);
  CLI11_PARSE(app, argc, argv);
  quench::serve(o);
}
