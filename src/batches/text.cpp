// data.type: text. Files -> tokenizer -> memory-mapped chunks of token ids -> batches with masked
// or next-token labels.
#include <ATen/ATen.h>

#include <filesystem>
#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/progress.h"
#include "batches/data_config.h"
#include "data/corpus.h"
#include "data/masking.h"
#include "data/prepare.h"
#include "data/sentencepiece.h"
#include "io/atomic_file.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

class TextSource : public BatchSource {
 public:
  TextSource(TokenSet tokens, const DataContext& context, const Tokenizer& tokenizer)
      : tokens_(std::move(tokens)), masked_(context.task == "mlm") {
    masking_.probability = context.mlm_probability;
    masking_.mask_id = tokenizer.special().mask;
    masking_.vocab_size = tokenizer.vocab_size();
    masking_.special_ids = tokenizer.special().structural();
    if (masked_ && masking_.mask_id < 0)
      throw UsageError("the tokenizer has no [MASK] token, which masked language modelling needs");
  }

  int64_t samples() const override { return tokens_.chunks(); }

  Batch batch(const BatchRequest& request) const override {
    const int64_t size = static_cast<int64_t>(request.samples.size()),
                  length = tokens_.index().chunk_length;
    Batch batch;
    batch.input_ids = at::empty({size, length}, at::kLong);
    int64_t* ids = batch.input_ids.mutable_data_ptr<int64_t>();
    for (int64_t i = 0; i < size; ++i)
      tokens_.chunk(request.samples[static_cast<size_t>(i)], ids + i * length);
    if (!masked_) {
      batch.labels = batch.input_ids;
      return batch;
    }
    batch.labels = at::empty({size, length}, at::kLong);
    int64_t* labels = batch.labels.mutable_data_ptr<int64_t>();
    for (int64_t i = 0; i < size; ++i) {
      CounterRng rng({kMasking, request.seed,
                      static_cast<uint64_t>(request.positions[static_cast<size_t>(i)])});
      mask_tokens({ids + i * length, static_cast<size_t>(length)},
                  {labels + i * length, static_cast<size_t>(length)}, masking_, rng);
    }
    batch.label_positions = (batch.labels.flatten() != -100).nonzero().squeeze(1);
    return batch;
  }

 private:
  TokenSet tokens_;
  bool masked_;
  MaskingOptions masking_;
};

std::vector<TextFile> expand(const std::vector<std::string>& patterns) {
  std::vector<std::string> expanded;
  for (const std::string& pattern : patterns) expanded.push_back(expand_variables(pattern));
  return expand_files(expanded);
}

FileSplit split(const TextData& data) {
  const std::vector<TextFile> files = expand(data.files);
  if (data.validation_files.empty())
    return split_files(files, data.validation_share, static_cast<uint64_t>(data.split_seed));
  FileSplit split{{}, expand(data.validation_files)};
  std::set<std::string> held_out;
  for (const TextFile& file : split.validation)
    held_out.insert(fs::weakly_canonical(file.path).string());
  for (const TextFile& file : files)
    if (!held_out.count(fs::weakly_canonical(file.path).string())) split.train.push_back(file);
  return split;
}

// Hands out the lines of one file after the other.
class LineReader {
 public:
  LineReader(std::vector<TextFile> files, InvalidUtf8 invalid)
      : files_(std::move(files)), invalid_(invalid) {}
  bool operator()(std::string& line) {
    while (true) {
      if (reader_ && reader_->next(line)) return true;
      if (next_ == files_.size()) return false;
      reader_ =
          std::make_shared<DocumentReader>(files_[next_++].path, DocumentUnit::kLine, invalid_);
    }
  }

 private:
  std::vector<TextFile> files_;
  InvalidUtf8 invalid_;
  size_t next_ = 0;
  std::shared_ptr<DocumentReader> reader_;
};

std::shared_ptr<const Tokenizer> find_or_train_tokenizer(const std::vector<TextFile>& files,
                                                         InvalidUtf8 invalid,
                                                         const TokenizerConfig& config,
                                                         const std::string& cache) {
  if (config.path) return load_tokenizer(expand_variables(*config.path));
  const Corpus corpus = scan(files, invalid);
  const std::string key = content_hash(concat(corpus.hash, config::write(config).dump()));
  const fs::path folder = fs::path(cache) / "tokenizers" / key;
  if (fs::exists(folder)) return load_tokenizer(folder.string());
  log_info(concat("training a ", config.algorithm, " tokenizer of ", config.vocab_size,
                  " pieces on ", corpus.files.size(), " files (kept in ", folder.string(), ")"));
  SentencePieceOptions options;
  options.model_type = config.algorithm;
  options.vocab_size = config.vocab_size;
  options.character_coverage = config.character_coverage;
  options.input_sentence_size = config.training_lines;
  std::shared_ptr<const Tokenizer> tokenizer =
      train_sentencepiece(LineReader(corpus.files, invalid), options);
  AtomicFolder made(folder);
  tokenizer->save(made.path().string());
  made.commit();
  return tokenizer;
}

TokenSet prepare_tokens(const std::vector<TextFile>& files, const Tokenizer& tokenizer,
                        const TextData& data, const char* subset, const std::string& cache) {
  PrepareOptions options;
  options.chunk_length = data.max_seq_length;
  options.document = document_unit(data.document);
  options.invalid_utf8 = invalid_utf8(data.invalid_utf8);
  std::string identity =
      concat(tokenizer.hash(), data.max_seq_length, data.document, data.invalid_utf8, subset);
  for (const TextFile& file : files) identity += '\n' + fs::weakly_canonical(file.path).string();
  const fs::path folder = fs::path(cache) / "tokens" / content_hash(identity);
  std::unique_ptr<Progress> progress;
  Prepared prepared =
      prepare(files, tokenizer, options, folder.string(), [&](int64_t done, int64_t total) {
        if (!progress)
          progress = std::make_unique<Progress>(concat("tokenize ", subset), total, "B");
        progress->update(done);
      });
  if (progress) progress->finish();
  for (const std::string& warning : prepared.warnings) log_warning(warning);
  log_info(concat(subset, ": ", prepared.tokens.chunks(), " chunks of ", data.max_seq_length,
                  " tokens from ", files.size(), " files",
                  prepared.reused ? " (prepared before)" : ""));
  return std::move(prepared.tokens);
}

}  // namespace

void TextData::describe(config::Fields& f) {
  using namespace config;
  f("files", files,
    "text files: paths and globs (*, **); ${LIBTORCH_INCLUDE} is the folder of LibTorch's headers");
  f("validation_files", validation_files, "held-out files; default: a share of `files`");
  f("validation_share", validation_share, "share of the files that is held out", between(0, 0.9));
  f("split_seed", split_seed, "which files are held out", at_least(0));
  f("max_seq_length", max_seq_length, "tokens of a chunk", at_least(2));
  f("document", document, "what gets its own special tokens",
    one_of({"line", "paragraph", "file"}));
  f("invalid_utf8", invalid_utf8, "what to do with bytes that are not UTF-8",
    one_of({"error", "skip_file", "replace"}));
  f("cache", cache, "folder for prepared tokens and tokenizers; default: the user's cache");
  f.require(!files.empty(), "files", "expected at least one file or pattern");
}

void TextData::validate() const {
  try {
    split(*this);
  } catch (const UsageError&) {
    throw;
  } catch (const Error& error) {
    throw UsageError(concat("data.files: ", error.what()));
  }
}

OpenedData TextData::open(Subset subset, const DataContext& context) const {
  const FileSplit files = split(*this);
  const std::string root = cache ? expand_variables(*cache) : cache_folder();
  OpenedData opened;
  opened.tokenizer = context.tokenizer
                         ? context.tokenizer
                         : find_or_train_tokenizer(files.train, quench::invalid_utf8(invalid_utf8),
                                                   context.tokenizer_config, root);
  const bool train = subset == Subset::kTrain;
  opened.source = std::make_shared<TextSource>(
      prepare_tokens(train ? files.train : files.validation, *opened.tokenizer, *this,
                     train ? "train" : "validation", root),
      context, *opened.tokenizer);
  opened.max_seq_length = max_seq_length;
  opened.vocabulary_or_classes = opened.tokenizer->vocab_size();
  return opened;
}

}  // namespace quench
