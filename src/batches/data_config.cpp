#include "batches/data_config.h"

#include "batches/bigram_backcopy.h"
#include "batches/images.h"
#include "batches/tensors.h"
#include "batches/text.h"

namespace quench {

void describe(config::Fields& f, TokenizerConfig& c) {
  using namespace config;
  f("path", c.path,
    "tokenizer file or folder; default: one is trained on the training files and kept in the "
    "cache",
    any(), OnResume::kFree);
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
      {"bigram_backcopy", "sequences in which attention sinks come early, made on demand",
       [] { return std::make_shared<BigramBackcopyData>(); }},
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

}  // namespace quench
