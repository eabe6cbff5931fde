#include "data/prepare.h"

#include <algorithm>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/signals.h"
#include "io/atomic_file.h"
#include "io/make_once.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

int64_t shard_capacity(const TokenIndex& index, int64_t max_shard_bytes) {
  return std::max<int64_t>(1, max_shard_bytes / id_size(index) / index.chunk_length) *
         index.chunk_length;
}

// Cuts a stream of ids into chunks, and the chunks into shards.
class ShardWriter {
 public:
  // Adds the shards to those that `index` has. `tokens`: where in the whole stream what is appended
  // begins, not behind the end of those shards. `capacity`: tokens in a shard.
  ShardWriter(const fs::path& folder, TokenIndex& index, int64_t capacity, int64_t tokens)
      : folder_(folder),
        index_(index),
        capacity_(capacity),
        skip_(static_cast<int64_t>(index.shards.size()) * capacity - tokens) {}

  void append(std::span<const int32_t> ids) {
    const auto known = std::min<size_t>(static_cast<size_t>(skip_), ids.size());
    skip_ -= static_cast<int64_t>(known);
    pending_.insert(pending_.end(), ids.begin() + static_cast<int64_t>(known), ids.end());
    size_t begin = 0;
    while (static_cast<int64_t>(pending_.size() - begin) >= index_.chunk_length) {
      if (file_ == nullptr) start_shard();
      const int64_t whole =
          static_cast<int64_t>(pending_.size() - begin) / index_.chunk_length * index_.chunk_length;
      const int64_t count = std::min(whole, capacity_ - shard_.tokens);
      write({pending_.data() + begin, static_cast<size_t>(count)});
      begin += count;
      shard_.tokens += count;
      if (shard_.tokens == capacity_) finish_shard();
    }
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<int64_t>(begin));
  }

  // Drops the remainder.
  void finish() {
    if (file_ != nullptr) finish_shard();
  }

 private:
  void start_shard() {
    char name[32];
    std::snprintf(name, sizeof name, "tokens-%05zu.bin", index_.shards.size());
    shard_ = {.file = name, .tokens = 0, .checksum = ""};
    file_ = std::make_unique<AtomicFile>(folder_ / name);
    hash_ = {};
  }

  void finish_shard() {
    file_->commit();
    file_.reset();
    shard_.checksum = hash_.hex();
    index_.shards.push_back(shard_);
  }

  void write(std::span<const int32_t> ids) {
    if (id_size(index_) == 4) return write_bytes(ids);
    const std::vector<uint16_t> narrow(ids.begin(), ids.end());
    write_bytes(std::span<const uint16_t>(narrow));
  }

  template <class Id>
  void write_bytes(std::span<const Id> ids) {
    hash_.update({reinterpret_cast<const char*>(ids.data()), ids.size_bytes()});
    file_->write(ids.data(), ids.size_bytes());
  }

  fs::path folder_;
  TokenIndex& index_;
  int64_t capacity_;
  int64_t skip_;  // ids to come that stand in a shard
  std::vector<int32_t> pending_;
  TokenIndex::Shard shard_;  // the one that is being written
  std::unique_ptr<AtomicFile> file_;
  ContentHash hash_;
};

// Some consecutive documents, the unit of parallel work.
struct Block {
  std::vector<Document> documents;
  int64_t bytes = 0;
  std::vector<int32_t> ids;
};
constexpr int64_t kBlockBytes = 256 << 10;

// False at the corpus's end.
bool read_block(CorpusReader& reader, Block& block) {
  stop_if_signalled();
  Document document;
  while (block.bytes < kBlockBytes && reader.next(document)) {
    block.bytes += static_cast<int64_t>(document.text.size()) + document.ends;
    block.documents.push_back(std::move(document));
  }
  return !block.documents.empty();
}

// Empty at the corpus's end.
std::vector<Block> read_wave(CorpusReader& reader, size_t size) {
  std::vector<Block> blocks;
  for (Block block; blocks.size() < size && read_block(reader, block); block = {})
    blocks.push_back(std::move(block));
  return blocks;
}

void tokenize(std::vector<Block>& blocks, const Tokenizer& tokenizer, int threads) {
  parallel_for(static_cast<int64_t>(blocks.size()), threads, [&](int64_t b) {
    stop_if_signalled();
    for (const auto& [text, begins, ends] : blocks[b].documents) {
      const std::vector<int32_t> ids = tokenizer.document(text, begins, ends);
      blocks[b].ids.insert(blocks[b].ids.end(), ids.begin(), ids.end());
    }
  });
}

// How far a preparation has come. index.json of an unfinished one holds beside the shards that are
// done a position from which the rest can be made.
struct Position {
  int64_t parts = 0;  // that were read (Document)
  int64_t documents = 0;
  int64_t bytes = 0;
  int64_t tokens = 0;
  int64_t words_cut = 0;
};

void write_index(const fs::path& folder, const TokenIndex& index, const Position* position) {
  Json json = to_json(index);
  if (position != nullptr)
    json["position"] = {{"parts", position->parts},
                        {"documents", position->documents},
                        {"bytes", position->bytes},
                        {"tokens", position->tokens},
                        {"words_cut", position->words_cut}};
  write_file_atomically(folder / kIndexFile, dump(json, 2) + "\n");
}

// Where to go on in a folder that an earlier process left, whose shards `index` is given; the
// beginning, in a folder that is emptied, if that preparation was another one.
Position find_position(const fs::path& folder, TokenIndex& index, int64_t capacity) {
  try {
    TokenIndex found = TokenSet::open(folder).index();  // throws for shards that are not whole
    const Json json = parse_json(read_file(folder / kIndexFile)).at("position");
    if (found.key == index.key && found.shards.front().tokens == capacity) {
      index.shards = std::move(found.shards);
      return {json.at("parts"), json.at("documents"), json.at("bytes"), json.at("tokens"),
              json.at("words_cut")};
    }
  } catch (const std::exception&) {
    // What it holds is of no use.
  }
  for (const auto& entry : fs::directory_iterator(folder)) fs::remove_all(entry.path());
  return {};
}

// Tokenizes the corpus in waves of blocks, and reads the next one meanwhile. Shards that are
// finished stay when this ends early.
Position write_shards(const Corpus& corpus, const Tokenizer& tokenizer,
                      const PrepareOptions& options, AtomicFolder& output, TokenIndex& index,
                      const PrepareProgress& progress) {
  const int threads = options.threads > 0 ? options.threads : processors();
  const int64_t capacity = shard_capacity(index, options.max_shard_bytes);
  Position at = find_position(output.path(), index, capacity);
  if (!index.shards.empty()) {
    output.keep();
    log_info(concat("going on with a preparation that was stopped at ",
                    100 * at.bytes / std::max<int64_t>(1, corpus.bytes), " % of the text"));
  }
  ShardWriter writer(output.path(), index, capacity, at.tokens);
  CorpusReader reader(corpus.files, options.document, options.invalid_utf8);
  Document known;
  for (int64_t i = 0; i < at.parts && reader.next(known); ++i) stop_if_signalled();
  const auto read = [&] { return read_wave(reader, 8 * static_cast<size_t>(threads)); };
  std::future<std::vector<Block>> next;
  for (std::vector<Block> wave = read(); !wave.empty(); wave = next.get()) {
    next = std::async(std::launch::async, read);
    const Position before = at;
    const size_t shards = index.shards.size();
    const int64_t cut = tokenizer.words_cut();
    tokenize(wave, tokenizer, threads);
    at.words_cut += tokenizer.words_cut() - cut;
    for (const Block& block : wave) {
      writer.append(block.ids);
      at.parts += static_cast<int64_t>(block.documents.size());
      at.documents += std::ranges::count(block.documents, true, &Document::begins);
      at.bytes += block.bytes;
      at.tokens += static_cast<int64_t>(block.ids.size());
    }
    if (index.shards.size() > shards) {
      write_index(output.path(), index, &before);
      output.keep();
    }
    if (progress) progress(std::min(at.bytes, corpus.bytes), corpus.bytes);
  }
  if (progress) progress(corpus.bytes, corpus.bytes);
  writer.finish();
  return at;
}

// Everything but the shards and the count of documents.
TokenIndex make_index(const Corpus& corpus, const Tokenizer& tokenizer,
                      const PrepareOptions& options) {
  TokenIndex index;
  index.vocab_size = tokenizer.vocab_size();
  index.dtype = index.vocab_size <= 65536 ? "uint16" : "uint32";
  index.chunk_length = options.chunk_length;
  index.tokenizer = tokenizer.hash();
  index.key = content_hash(concat(kTokenSetFormat, ' ', corpus.hash, ' ', index.tokenizer, ' ',
                                  index.chunk_length, ' ', static_cast<int>(options.document), ' ',
                                  static_cast<int>(options.invalid_utf8)));
  return index;
}

}  // namespace

namespace {

// The set in `folder` if it is the one that `index` describes and, as far as that is looked at, not
// damaged; what is wrong goes to `warnings`. Throws Error for a folder that is no token set.
std::optional<TokenSet> find_set(const fs::path& folder, const TokenIndex& index, bool verify,
                                 std::vector<std::string>& warnings) {
  if (!fs::exists(folder) || fs::is_empty(folder)) return std::nullopt;
  const fs::path file = folder / kIndexFile;
  check(fs::exists(file), folder.string(),
        " is not empty and is no token set; choose another folder.");
  if (parse_json(read_file(file), /*allow_exceptions=*/false).is_discarded()) {
    warnings.push_back(concat(file.string(), " is damaged. It is prepared anew."));
    return std::nullopt;
  }
  if (read_index(folder).key != index.key) return std::nullopt;  // throws if it is someone else's
  try {
    TokenSet set = TokenSet::open(folder);
    if (verify) set.verify();
    return set;
  } catch (const Error& error) {
    warnings.push_back(concat(error.what(), " It is prepared anew."));
    return std::nullopt;
  }
}

}  // namespace

Prepared prepare(const std::vector<TextFile>& files, const Tokenizer& tokenizer,
                 const PrepareOptions& options, const std::string& folder,
                 const PrepareProgress& progress,
                 const std::function<void(const std::string&)>& on_wait) {
  check(options.chunk_length > 0, "chunk_length is ", options.chunk_length,
        "; expected 1 or more.");
  const fs::path target = (fs::path(folder) / "").parent_path();  // without a slash at its end
  const Corpus corpus =
      scan_once(files, options.invalid_utf8, options.scan_record, /*again=*/options.verify);
  TokenIndex index = make_index(corpus, tokenizer, options);
  Prepared prepared{.tokens = {}, .reused = true, .warnings = {}};
  const auto find = [&] {
    prepared.warnings = corpus.warnings;
    auto set = find_set(target, index, options.verify, prepared.warnings);
    if (set) prepared.tokens = std::move(*set);
    return set.has_value();
  };
  make_once(target, find, on_wait, [&] {
    prepared.reused = false;
    AtomicFolder output = AtomicFolder::resumable(target);
    const Position end = write_shards(corpus, tokenizer, options, output, index, progress);
    if (end.words_cut > 0)
      prepared.warnings.push_back(
          concat("words too long for the tokenizer's library were cut ", end.words_cut, " times."));
    check(!index.shards.empty(), "the text is too short: ", end.tokens,
          " tokens, and one sequence needs ", options.chunk_length,
          ". Give more text, or lower the sequence length.");
    index.documents = end.documents;
    write_index(output.path(), index, nullptr);
    output.commit();
    prepared.tokens = TokenSet::open(target);
  });
  return prepared;
}

}  // namespace quench
