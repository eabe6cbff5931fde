#include "data/prepare.h"

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <thread>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "base/signals.h"
#include "io/atomic_file.h"
#include "io/file_lock.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// Cuts a stream of ids into chunks, and the chunks into shards.
class ShardWriter {
 public:
  // Completes `index` as it goes; capacity: tokens in a shard.
  ShardWriter(const fs::path& folder, TokenIndex& index, int64_t max_shard_bytes)
      : folder_(folder),
        index_(index),
        capacity_(std::max<int64_t>(1, max_shard_bytes / id_size(index) / index.chunk_length) *
                  index.chunk_length) {}

  void append(const std::vector<int32_t>& ids) {
    pending_.insert(pending_.end(), ids.begin(), ids.end());
    total_ += static_cast<int64_t>(ids.size());
    size_t begin = 0;
    while (static_cast<int64_t>(pending_.size() - begin) >= index_.chunk_length) {
      if (file_ == nullptr) start_shard();
      int64_t& in_shard = index_.shards.back().tokens;
      const int64_t whole =
          static_cast<int64_t>(pending_.size() - begin) / index_.chunk_length * index_.chunk_length;
      const int64_t count = std::min(whole, capacity_ - in_shard);
      write({pending_.data() + begin, static_cast<size_t>(count)});
      begin += count;
      in_shard += count;
      if (in_shard == capacity_) finish_shard();
    }
    pending_.erase(pending_.begin(), pending_.begin() + static_cast<int64_t>(begin));
  }

  // Drops the remainder. Returns how many tokens there were.
  int64_t finish() {
    if (file_ != nullptr) finish_shard();
    return total_;
  }

 private:
  void start_shard() {
    char name[32];
    std::snprintf(name, sizeof name, "tokens-%05zu.bin", index_.shards.size());
    index_.shards.push_back({.file = name, .tokens = 0, .checksum = ""});
    file_ = std::make_unique<AtomicFile>(folder_ / name);
    hash_ = {};
  }

  void finish_shard() {
    file_->commit();
    file_.reset();
    index_.shards.back().checksum = hash_.hex();
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
  int64_t total_ = 0;
  std::vector<int32_t> pending_;
  std::unique_ptr<AtomicFile> file_;
  ContentHash hash_;
};

// Some consecutive documents, the unit of parallel work.
struct Block {
  std::vector<Document> documents;
  int64_t bytes = 0;
  std::vector<int32_t> ids;
  std::exception_ptr error;
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

void tokenize(std::vector<Block>& blocks, const Tokenizer& tokenizer, int threads) {
  std::atomic<size_t> next = 0;
  const auto work = [&] {
    for (size_t b; (b = next++) < blocks.size();) {
      try {
        stop_if_signalled();
        for (const auto& [text, begins, ends] : blocks[b].documents) {
          const std::vector<int32_t> ids = tokenizer.document(text, begins, ends);
          blocks[b].ids.insert(blocks[b].ids.end(), ids.begin(), ids.end());
        }
      } catch (...) {
        blocks[b].error = std::current_exception();
      }
    }
  };
  std::vector<std::jthread> pool;
  for (int t = 1; t < threads; ++t) pool.emplace_back(work);
  work();
}

// Tokenizes the corpus in waves of blocks. Returns how many tokens there were.
int64_t write_shards(const Corpus& corpus, const Tokenizer& tokenizer,
                     const PrepareOptions& options, const fs::path& folder, TokenIndex& index,
                     const PrepareProgress& progress) {
  const int processors = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const int threads = options.threads > 0 ? options.threads : processors;
  ShardWriter writer(folder, index, options.max_shard_bytes);
  CorpusReader reader(corpus.files, options.document, options.invalid_utf8);
  int64_t done = 0;
  for (;;) {
    std::vector<Block> blocks;
    for (Block block; static_cast<int>(blocks.size()) < 8 * threads && read_block(reader, block);
         block = {}) {
      blocks.push_back(std::move(block));
    }
    if (blocks.empty()) break;
    tokenize(blocks, tokenizer, threads);
    for (const Block& block : blocks) {
      if (block.error) std::rethrow_exception(block.error);
      writer.append(block.ids);
      index.documents += std::ranges::count(block.documents, true, &Document::begins);
      done += block.bytes;
    }
    if (progress) progress(std::min(done, corpus.bytes), corpus.bytes);
  }
  if (progress) progress(corpus.bytes, corpus.bytes);
  return writer.finish();
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
      scan_once(files, options.invalid_utf8, options.verify ? "" : options.scan_record);
  TokenIndex index = make_index(corpus, tokenizer, options);
  Prepared prepared{.tokens = {}, .reused = true, .warnings = corpus.warnings};
  const auto found = [&] {
    auto set = find_set(target, index, options.verify, prepared.warnings);
    if (set) prepared.tokens = std::move(*set);
    return set.has_value();
  };
  if (found()) return prepared;
  if (target.has_parent_path()) fs::create_directories(target.parent_path());
  const FileLock lock = FileLock::take(target.string() + ".lock", [&](const std::string& holder) {
    if (on_wait) on_wait(holder);
  });
  remove_abandoned(target.parent_path());
  prepared.warnings = corpus.warnings;
  if (found()) return prepared;  // another process has made it meanwhile
  prepared.reused = false;
  AtomicFolder output(target);
  const int64_t cut_before = tokenizer.words_cut();
  const int64_t tokens = write_shards(corpus, tokenizer, options, output.path(), index, progress);
  if (const int64_t cut = tokenizer.words_cut() - cut_before; cut > 0)
    prepared.warnings.push_back(
        concat("words too long for the tokenizer's library were cut ", cut, " times."));
  check(!index.shards.empty(), "the text is too short: ", tokens,
        " tokens, and one sequence needs ", options.chunk_length,
        ". Give more text, or lower the sequence length.");
  write_file_atomically(output.path() / kIndexFile, dump(to_json(index), 2) + "\n");
  output.commit();
  prepared.tokens = TokenSet::open(target);
  return prepared;
}

}  // namespace quench
