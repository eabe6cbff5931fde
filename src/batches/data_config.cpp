#include "batches/data_config.h"

#include <dlfcn.h>

#include <cstdlib>
#include <filesystem>

#include "base/error.h"
#include "batches/images.h"

namespace quench {
namespace {

std::string libtorch_include() {
  Dl_info info{};
  void* symbol = dlsym(RTLD_DEFAULT, "sgemm_");  // of libtorch_cpu.so
  check(symbol && dladdr(symbol, &info), "cannot find the folder that LibTorch was loaded from");
  return (std::filesystem::canonical(info.dli_fname).parent_path().parent_path() / "include")
      .string();
}

}  // namespace

void describe(config::Fields& f, TokenizerConfig& c) {
  using namespace config;
  f("path", c.path,
    "tokenizer file or folder; default: one is trained on the training files and kept in the "
    "cache");
  f("algorithm", c.algorithm, "kind of the sentencepiece tokenizer that is trained",
    one_of({"unigram", "bpe"}));
  f("vocab_size", c.vocab_size, "pieces, special tokens included", at_least(16));
  f("character_coverage", c.character_coverage, "share of all characters that the alphabet covers",
    between(0.98, 1));
  f("training_lines", c.training_lines, "lines drawn at random to train on; 0: all", at_least(0));
}

void describe(config::Fields& f, TaskConfig& c) {
  f("objective", c.objective, "what is learned; default: what the model is for",
    config::one_of({"mlm", "clm", "classification"}));
  f("mlm_probability", c.mlm_probability, "share of tokens that are selected (mlm)",
    config::between(0, 1));
}

const config::Registry<DataConfig>& data_types() {
  static const config::Registry<DataConfig> registry{{
      {"text", "text files", [] { return std::make_shared<TextData>(); }},
      {"tensors", "batches prepared elsewhere, in safetensors files",
       [] { return std::make_shared<TensorsData>(); }},
      {"image_folder", "images, one folder a class",
       [] { return std::make_shared<ImageFolderData>(); }},
      {"cifar10", "CIFAR-10, binary version",
       [] { return std::make_shared<PackedImagesData>("cifar10", cifar10); }},
      {"cifar100", "CIFAR-100, binary version",
       [] { return std::make_shared<PackedImagesData>("cifar100", cifar100); }},
      {"mnist", "MNIST, Fashion-MNIST and their like",
       [] { return std::make_shared<PackedImagesData>("mnist", mnist); }},
      {"synthetic", "images of shapes, drawn on demand",
       [] { return std::make_shared<SyntheticImagesData>(); }},
  }};
  return registry;
}

std::string expand_variables(const std::string& text) {
  std::string out;
  size_t at = 0;
  for (size_t open; (open = text.find("${", at)) != std::string::npos;) {
    const size_t close = text.find('}', open);
    if (close == std::string::npos)
      throw UsageError(concat("'", text, "': '${' without a closing '}'"));
    const std::string name = text.substr(open + 2, close - open - 2);
    out += text.substr(at, open - at);
    if (name == "LIBTORCH_INCLUDE") {
      out += libtorch_include();
    } else if (const char* value = std::getenv(name.c_str())) {
      out += value;
    } else {
      throw UsageError(concat("'", text, "': the environment variable ", name, " is not set"));
    }
    at = close + 1;
  }
  return out + text.substr(at);
}

std::string cache_folder() {
  if (const char* cache = std::getenv("QUENCH_CACHE")) return cache;
  if (const char* cache = std::getenv("XDG_CACHE_HOME")) return std::string(cache) + "/quench";
  const char* home = std::getenv("HOME");
  return std::string(home ? home : ".") + "/.cache/quench";
}

}  // namespace quench
