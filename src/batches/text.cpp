#include "batches/text.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "base/environment.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/progress.h"
#include "data/corpus.h"
#include "data/masking.h"
#include "data/prepare.h"
#include "data/sampler.h"
#include "data/sentencepiece.h"
#include "io/atomic_file.h"
#include "io/make_once.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

struct ChunkRange {
  int64_t first, count;
};

// A corpus (a range of its chunks) as a stream of pieces that has every piece once before it has
// one again. A piece is a chunk, or shorter where a token is put before it: the next tokens of the
// range. Each epoch takes the next `samples` of them; a part of the corpus is drawn at random, so
// that it stands for all.
struct CorpusTokens {
  CorpusTokens(TokenSet set, ChunkRange range, int64_t piece, double weight)
      : tokens(std::move(set)),
        first(range.first),
        piece_length(piece),
        pieces(range.count * tokens.index().chunk_length / piece),
        samples(std::max<int64_t>(1, std::llround(weight * static_cast<double>(pieces)))),
        order(pieces, /*seed=*/0, /*shuffle=*/samples % pieces != 0) {}

  void read(int64_t piece, int64_t* ids) const {
    tokens.tokens(first * tokens.index().chunk_length + piece * piece_length, piece_length, ids);
  }

  TokenSet tokens;
  int64_t first;  // chunk
  int64_t piece_length, pieces;
  int64_t samples;
  Sampler order;
};

// The token that every sequence begins with; std::nullopt: what stands in the text there.
std::optional<int32_t> begin_id(const TextData& data, const Tokenizer& tokenizer) {
  if (data.begin == "none") return std::nullopt;
  const int32_t id = tokenizer.enclosing().first;
  if (id < 0)
    fail_usage(
        "data.begin: bos needs a tokenizer that begins a document with a token of its own (<s>, "
        "[CLS]), and this one does not");
  return id;
}

class TextSource : public BatchSource {
 public:
  TextSource(std::vector<CorpusTokens> corpora, std::optional<int32_t> begin,
             const DataContext& context, const Tokenizer& tokenizer)
      : corpora_(std::move(corpora)), begin_(begin), masked_(context.task == "mlm") {
    for (const CorpusTokens& corpus : corpora_) samples_ += corpus.samples;
    masking_.probability = context.mlm_probability;
    masking_.mask_id = tokenizer.special().mask;
    masking_.vocab_size = tokenizer.vocab_size();
    masking_.special_ids = tokenizer.special().structural();
    if (masked_ && masking_.mask_id < 0)
      fail_usage("the tokenizer has no [MASK] token, which masked language modelling needs");
  }

  int64_t samples() const override { return samples_; }

  Batch batch(const BatchRequest& request) const override {
    const int64_t size = static_cast<int64_t>(request.samples.size()),
                  length = corpora_.front().tokens.index().chunk_length;
    Batch batch;
    batch.input_ids = at::empty({size, length}, at::kLong);
    int64_t* ids = batch.input_ids.mutable_data_ptr<int64_t>();
    for (int64_t i = 0; i < size; ++i)
      read(request.samples[static_cast<size_t>(i)], request.positions[static_cast<size_t>(i)],
           ids + i * length);
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
  // Writes the ids of a sample.
  void read(int64_t sample, int64_t position, int64_t* ids) const {
    check(sample >= 0 && sample < samples_, "there is no text sample ", sample, "; expected 0 to ",
          samples_ - 1);
    const int64_t epoch = position / samples_;
    auto corpus = corpora_.begin();
    for (; sample >= corpus->samples; ++corpus) sample -= corpus->samples;
    const int64_t piece = corpus->order.index(epoch * corpus->samples + sample);
    if (begin_) *ids++ = *begin_;
    corpus->read(piece, ids);
  }

  std::vector<CorpusTokens> corpora_;
  std::optional<int32_t> begin_;
  int64_t samples_ = 0;
  bool masked_;
  MaskingOptions masking_;
};

std::vector<TextFile> expand(const std::vector<std::string>& patterns) {
  std::vector<std::string> expanded;
  for (const std::string& pattern : patterns) expanded.push_back(expand_variables(pattern));
  return expand_files(expanded);
}

// `files` and `validation_files` are the short form of one corpus.
std::vector<TextCorpus> corpora_of(const TextData& data) {
  if (!data.corpora.empty()) return data.corpora;
  return {{data.files, data.validation_files, 1}};
}

// What messages call corpus i.
std::string name_of(const TextData& data, size_t i) {
  return data.corpora.empty() ? "data.files" : concat("data.corpora.", i);
}

// The files of each corpus. What one of them holds out, be it in part, no other trains on.
std::vector<FileSplit> split(const TextData& data) {
  std::vector<FileSplit> splits;
  std::set<std::string> held_out, held_out_in_part;
  const auto canonical = [](const TextFile& file) {
    return fs::weakly_canonical(file.path).string();
  };
  for (const TextCorpus& corpus : corpora_of(data)) {
    try {
      const std::vector<TextFile> files = expand(corpus.files);
      splits.push_back(
          corpus.validation_files.empty()
              ? split_files(files, data.validation_share, static_cast<uint64_t>(data.split_seed))
              : FileSplit{files, expand(corpus.validation_files)});
    } catch (const Error& error) {
      fail_usage(name_of(data, splits.size()), ": ", error.what());
    }
    for (const TextFile& file : splits.back().validation)
      (splits.back().within_file ? held_out_in_part : held_out).insert(canonical(file));
  }
  for (FileSplit& split : splits)
    std::erase_if(split.train, [&](const TextFile& f) {
      return held_out.contains(canonical(f)) ||
             (!split.within_file && held_out_in_part.contains(canonical(f)));
    });
  return splits;
}

// Where the scan of these files is remembered.
std::string scan_record(const std::vector<TextFile>& files, InvalidUtf8 invalid,
                        const std::string& cache) {
  std::string identity = std::to_string(static_cast<int>(invalid));
  for (const TextFile& file : files) identity += '\n' + fs::weakly_canonical(file.path).string();
  return fs::path(cache) / "scans" / (content_hash(identity) + ".json");
}

std::shared_ptr<const Tokenizer> find_or_train_tokenizer(const std::vector<FileSplit>& splits,
                                                         InvalidUtf8 invalid,
                                                         const TokenizerConfig& config,
                                                         const std::string& cache, bool verify) {
  if (config.path) return load_tokenizer(expand_variables(*config.path));
  std::vector<TextFile> files;
  for (const FileSplit& split : splits)
    files.insert(files.end(), split.train.begin(), split.train.end());
  const Corpus corpus =
      scan_once(files, invalid, scan_record(files, invalid, cache), /*again=*/verify);
  const std::string key = content_hash(concat(corpus.hash, dump(config::write(config))));
  const fs::path folder = fs::path(cache) / "tokenizers" / key;
  make_once(
      folder, [&] { return fs::exists(folder); },
      [](const std::string& holder) {
        log_info(concat(holder, " trains this tokenizer; waiting for it"));
      },
      [&] {
        log_info(concat("training a ", config.algorithm, " tokenizer of ", config.vocab_size,
                        " pieces on ", corpus.files.size(), " files (kept in ", folder.string(),
                        ")"));
        SentencePieceOptions options;
        options.model_type = config.algorithm;
        options.vocab_size = config.vocab_size;
        options.character_coverage = config.character_coverage;
        options.input_sentence_size = config.training_lines;
        CorpusReader reader(corpus.files, DocumentUnit::kLine, invalid);
        AtomicFolder made(folder);
        train_sentencepiece(lines_of(reader), options)->save(made.path().string());
        made.commit();
      });
  return load_tokenizer(folder.string());
}

// `label` names them in messages.
TokenSet prepare_tokens(const std::vector<TextFile>& files, const Tokenizer& tokenizer,
                        const TextData& data, const char* subset, const std::string& label,
                        const std::string& cache, bool verify) {
  PrepareOptions options;
  options.chunk_length = data.max_seq_length;
  options.document = document_unit(data.document);
  options.invalid_utf8 = invalid_utf8(data.invalid_utf8);
  options.scan_record = scan_record(files, options.invalid_utf8, cache);
  options.verify = verify;
  std::string identity =
      concat(tokenizer.hash(), data.max_seq_length, data.document, data.invalid_utf8, subset);
  for (const TextFile& file : files) identity += '\n' + fs::weakly_canonical(file.path).string();
  const fs::path folder = fs::path(cache) / "tokens" / content_hash(identity);
  std::unique_ptr<Progress> progress;
  Prepared prepared = prepare(
      files, tokenizer, options, folder.string(),
      [&](int64_t done, int64_t total) {
        if (!progress)
          progress = std::make_unique<Progress>(concat("tokenize ", label), total, "B");
        progress->update(done);
      },
      [&](const std::string& holder) {
        log_info(concat(label, ": ", holder, " tokenizes this text; waiting for it"));
      });
  if (progress) progress->finish();
  for (const std::string& warning : prepared.warnings) log_warning(concat(label, ": ", warning));
  log_info(concat(label, ": ", prepared.tokens.chunks(), " chunks of ", data.max_seq_length,
                  " tokens from ", files.size(), " files",
                  !prepared.reused ? ""
                  : verify         ? " (verified)"
                                   : " (prepared before)"));
  return std::move(prepared.tokens);
}

// The first chunks of a lone file train, the last ones validate.
ChunkRange part_of_file(int64_t chunks, const TextData& data, bool train, const std::string& file) {
  if (chunks < 2)
    fail_usage("data.validation_share: ", file, " makes 1 chunk of ", data.max_seq_length,
               " tokens; expected 2, to train and to validate on");
  const int64_t validation = std::clamp<int64_t>(
      std::llround(data.validation_share * static_cast<double>(chunks)), 1, chunks - 1);
  const int64_t training = chunks - validation;
  return train ? ChunkRange{0, training} : ChunkRange{training, validation};
}

// One subset of every corpus that has a share in it, in pieces of so many tokens.
std::vector<CorpusTokens> prepare_corpora(const TextData& data,
                                          const std::vector<FileSplit>& splits, bool train,
                                          const Tokenizer& tokenizer, int64_t piece_length,
                                          const std::string& cache, bool verify) {
  const char* subset = train ? "train" : "validation";
  const std::vector<TextCorpus> corpora = corpora_of(data);
  std::vector<CorpusTokens> prepared;
  for (size_t i = 0; i < corpora.size(); ++i) {
    const std::vector<TextFile>& files = train ? splits[i].train : splits[i].validation;
    if (files.empty() && !train) continue;
    const std::string name = name_of(data, i);
    if (files.empty()) fail_usage(name, ": every file is held out; expected one to train on");
    const std::string label = data.corpora.empty() ? subset : concat(subset, " of ", name);
    const bool within_file = splits[i].within_file;
    try {
      TokenSet tokens = prepare_tokens(files, tokenizer, data, within_file ? "train" : subset,
                                       label, cache, verify);
      ChunkRange range{0, tokens.chunks()};
      if (within_file) {
        range = part_of_file(tokens.chunks(), data, train, files.front().path);
        log_info(concat(label, ": the ", train ? "first " : "last ", range.count, " of them"));
      }
      prepared.emplace_back(std::move(tokens), range, piece_length, train ? corpora[i].weight : 1);
    } catch (const UsageError&) {
      throw;
    } catch (const Error& error) {
      fail(label, ": ", error.what());
    }
  }
  if (prepared.empty())
    fail_usage(
        "data: no file is held out; expected validation_files or a validation_share above 0");
  return prepared;
}

std::string identity_of(const std::vector<CorpusTokens>& corpora) {
  std::string all;
  for (const CorpusTokens& corpus : corpora)
    all += concat(corpus.tokens.index().key, ' ', corpus.first, ' ', corpus.samples, '\n');
  return content_hash(all);
}

void describe_files(config::Fields& f, std::vector<std::string>& files,
                    std::vector<std::string>& validation_files) {
  f("files", files,
    "text files: paths and globs (*, **); ${LIBTORCH_INCLUDE} is the folder of LibTorch's headers",
    config::any(), config::OnResume::kFree);
  f("validation_files", validation_files, "held-out files; default: a share of `files`",
    config::any(), config::OnResume::kFree);
}

}  // namespace

void describe(config::Fields& f, TextCorpus& c) {
  describe_files(f, c.files, c.validation_files);
  f("weight", c.weight, "passes over it in one epoch of all corpora; never in validation",
    config::between(0.001, 1000));
  f.require(!c.files.empty(), "files", "expected at least one file or pattern");
}

void TextData::describe(config::Fields& f) {
  using namespace config;
  describe_files(f, files, validation_files);
  f.list("corpora", corpora, "instead of `files`: several corpora, concatenated");
  f("validation_share", validation_share,
    "share of a corpus's files that is held out where it has no `validation_files`; of a single "
    "file, share of its chunks, the last ones",
    between(0, 0.9));
  f("split_seed", split_seed, "which files are held out", at_least(0));
  f("max_seq_length", max_seq_length, "tokens of a chunk", at_least(2));
  f("begin", begin,
    "none: a chunk begins as the text goes on; bos: with the token that begins a document",
    one_of({"none", "bos"}));
  f("document", document, "what gets its own special tokens",
    one_of({"line", "paragraph", "file"}));
  f("invalid_utf8", invalid_utf8, "what to do with bytes that are not UTF-8",
    one_of({"error", "skip_file", "replace"}));
  f("cache", cache, "folder for prepared tokens and tokenizers; default: the user's cache", any(),
    OnResume::kFree);
  f.require(!files.empty() || !corpora.empty(), "files",
            "expected at least one file or pattern, or `corpora`");
  const char* one_form = "expected none beside `corpora` ([] takes back what `extends` brings)";
  f.require(files.empty() || corpora.empty(), "files", one_form);
  f.require(validation_files.empty() || corpora.empty(), "validation_files", one_form);
}

void TextData::validate() const { split(*this); }

OpenedData TextData::open(Subset subset, const DataContext& context) const {
  const std::vector<FileSplit> splits = split(*this);
  const std::string root = cache ? expand_variables(*cache) : cache_folder();
  OpenedData opened;
  opened.tokenizer = context.tokenizer
                         ? context.tokenizer
                         : find_or_train_tokenizer(splits, quench::invalid_utf8(invalid_utf8),
                                                   context.tokenizer_config, root, context.verify);
  const std::optional<int32_t> begin_with = begin_id(*this, *opened.tokenizer);
  std::vector<CorpusTokens> corpora =
      prepare_corpora(*this, splits, subset == Subset::kTrain, *opened.tokenizer,
                      max_seq_length - (begin_with ? 1 : 0), root, context.verify);
  opened.identity = identity_of(corpora);
  opened.source =
      std::make_shared<TextSource>(std::move(corpora), begin_with, context, *opened.tokenizer);
  opened.max_seq_length = max_seq_length;
  opened.vocabulary_or_classes = opened.tokenizer->vocab_size();
  opened.special_tokens = opened.tokenizer->special();
  return opened;
}

}  // namespace quench
