#include "data/prepare.h"

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <csignal>
#include <future>
#include <numeric>
#include <optional>
#include <thread>

#include "data/sentencepiece.h"
#include "tests/data/hf_folder.h"
#include "tests/data/sample_text.h"
#include "tests/data/scratch.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// One id for each byte, and bos at the beginning of a document; `vocab_size` decides the width on
// disk.
class ByteTokenizer : public Tokenizer {
 public:
  explicit ByteTokenizer(int64_t vocab_size = 300, std::string hash = "1")
      : vocab_size_(vocab_size), hash_(hash) {}
  std::vector<int32_t> encode(std::string_view text) const override {
    std::vector<int32_t> ids;
    for (unsigned char byte : text) ids.push_back(byte);
    return ids;
  }
  std::string decode(std::span<const int32_t>) const override { return ""; }
  int64_t vocab_size() const override { return vocab_size_; }
  const SpecialTokens& special() const override { return special_; }
  void save(const std::string&) const override {}
  std::string hash() const override { return hash_; }

 private:
  int64_t vocab_size_;
  std::string hash_;
  SpecialTokens special_{.bos = 256};
};

class Prepare : public testing::Test {
 protected:
  Prepare() { text("a.txt", "abc\ndefg\n\nh\n"); }

  void text(const std::string& name, const std::string& content) {
    files_.push_back({scratch_.write(name, content), name});
  }

  Prepared prepared(const PrepareOptions& options = {.chunk_length = 3},
                    const Tokenizer& tokenizer = ByteTokenizer()) {
    return prepare(files_, tokenizer, options, folder());
  }

  std::string folder() const { return scratch_ / "set"; }

  std::vector<std::vector<int64_t>> chunks(const TokenSet& set) const {
    std::vector<std::vector<int64_t>> result(set.chunks(),
                                             std::vector<int64_t>(set.index().chunk_length));
    const int64_t length = set.index().chunk_length;
    for (int64_t i = 0; i < set.chunks(); ++i) set.tokens(i * length, length, result[i].data());
    return result;
  }

  Scratch scratch_;
  std::vector<TextFile> files_;
};

TEST_F(Prepare, ConcatenatesDocumentsAndDropsTheRemainder) {
  const Prepared result = prepared();
  EXPECT_FALSE(result.reused);
  EXPECT_EQ(chunks(result.tokens),
            (std::vector<std::vector<int64_t>>{{256, 'a', 'b'}, {'c', 256, 'd'}, {'e', 'f', 'g'}}));
  EXPECT_EQ(result.tokens.index().documents, 3);
  result.tokens.verify();
}

TEST_F(Prepare, SeparatesDocumentsAsTheReferenceDoes) {
  const auto stream = [&](const Tokenizer& tokenizer) {
    std::vector<int64_t> ids;
    for (const auto& chunk : chunks(prepared({.chunk_length = 1}, tokenizer).tokens))
      ids.push_back(chunk[0]);
    return ids;
  };
  const auto joined = [&](const Tokenizer& tokenizer, int32_t before, int32_t behind) {
    std::vector<int64_t> ids;
    for (const char* text : {"abc", "defg", "h"}) {
      const std::vector<int32_t> plain = tokenizer.encode(text);
      if (before >= 0) ids.push_back(before);
      ids.insert(ids.end(), plain.begin(), plain.end());
      if (behind >= 0) ids.push_back(behind);
    }
    return ids;
  };
  const auto opt = load_tokenizer(golden_tokenizers() / "opt");
  const int32_t end = opt->encode("</s>").at(0);
  EXPECT_EQ(stream(*opt), joined(*opt, end, -1));
  const auto bert = load_tokenizer(golden_tokenizers() / "bert-uncased");
  EXPECT_EQ(stream(*bert), joined(*bert, bert->special().cls, bert->special().sep));
  const std::vector<std::string> lines = sample_lines(200);
  size_t next = 0;
  const auto pieces = train_sentencepiece(
      [&](std::string& line) { return next < lines.size() && (line = lines[next++], true); },
      {.vocab_size = 60});
  EXPECT_EQ(stream(*pieces), joined(*pieces, pieces->special().bos, pieces->special().eos));
}

TEST_F(Prepare, StoresTheWidthThatTheVocabularyNeeds) {
  const auto narrow = prepared({.chunk_length = 3}, ByteTokenizer(65536, "narrow"));
  EXPECT_EQ(narrow.tokens.index().dtype, "uint16");
  EXPECT_EQ(fs::file_size(folder() + "/tokens-00000.bin"), 9 * 2u);
  const auto wide = prepared({.chunk_length = 3}, ByteTokenizer(65537, "wide"));
  EXPECT_EQ(wide.tokens.index().dtype, "uint32");
  EXPECT_EQ(fs::file_size(folder() + "/tokens-00000.bin"), 9 * 4u);
  EXPECT_EQ(chunks(wide.tokens), chunks(narrow.tokens));
}

TEST_F(Prepare, ShardsAndThreadsDoNotChangeTheChunks) {
  for (int f = 0; f < 4; ++f) {
    std::string content;
    for (const std::string& line : sample_lines(4000, f)) content += line + "\n";
    text(concat("more", f, ".txt"), content);
  }
  const auto reference = chunks(prepared({.chunk_length = 64, .threads = 1}).tokens);
  ASSERT_GT(reference.size(), 1000u);
  const std::string bytes = scratch_.read("set/tokens-00000.bin");
  fs::remove_all(folder());
  EXPECT_EQ(chunks(prepared({.chunk_length = 64, .threads = 4}).tokens), reference);
  EXPECT_EQ(scratch_.read("set/tokens-00000.bin"), bytes);
  fs::remove_all(folder());
  const TokenSet sharded = prepared({.chunk_length = 64, .max_shard_bytes = 10000}).tokens;
  EXPECT_GT(sharded.index().shards.size(), 10u);
  EXPECT_EQ(sharded.index().shards.front().tokens, 10000 / 2 / 64 * 64);
  EXPECT_EQ(chunks(sharded), reference);
  sharded.verify();
}

TEST_F(Prepare, ReusesTheSetOfTheSameInputsOnly) {
  prepared();
  EXPECT_TRUE(prepared({.chunk_length = 3, .threads = 2}).reused);
  EXPECT_FALSE(prepared({.chunk_length = 4}).reused);
  EXPECT_FALSE(prepared({.chunk_length = 4}, ByteTokenizer(300, "2")).reused);
  EXPECT_FALSE(prepared({.chunk_length = 4, .document = DocumentUnit::kFile}).reused);
  EXPECT_FALSE(prepared({.chunk_length = 4}).reused);
  scratch_.write("a.txt", "abc\ndefg\n\ni\n");
  EXPECT_FALSE(prepared({.chunk_length = 4}).reused);
  EXPECT_TRUE(prepared({.chunk_length = 4}).reused);
}

// A second start reads no text, unless it has changed: by size or time, and then by content.
TEST_F(Prepare, TextThatHasNotChangedIsNotReadAgain) {
  const PrepareOptions options{.chunk_length = 3, .scan_record = scratch_ / "scans/a.json"};
  prepared(options);
  const auto time = fs::last_write_time(files_[0].path);
  scratch_.write("a.txt", "xyz\ndefg\n\nh\n");
  fs::last_write_time(files_[0].path, time);
  EXPECT_TRUE(prepared(options).reused) << "the same size and time: it was not read";
  PrepareOptions verifying = options;
  verifying.verify = true;
  EXPECT_FALSE(prepared(verifying).reused) << "it was";
  EXPECT_TRUE(prepared(options).reused) << "and what was read is remembered";
  fs::last_write_time(files_[0].path, time + std::chrono::seconds(1));
  EXPECT_TRUE(prepared(options).reused) << "touched only";
  scratch_.write("a.txt", "xyz\ndefg\n\nhi\n");
  EXPECT_FALSE(prepared(options).reused);
  scratch_.write("scans/a.json", "{");
  EXPECT_TRUE(prepared(options).reused);
}

TEST_F(Prepare, OfTwoAtATimeOneWaits) {
  std::string holder;
  std::optional<Prepared> second;
  std::thread other;
  const Prepared first =
      prepare(files_, ByteTokenizer(), {.chunk_length = 3}, folder(), [&](int64_t, int64_t) {
        if (other.joinable()) return;
        std::promise<void> waits;
        other = std::thread([&] {
          second = prepare(files_, ByteTokenizer(), {.chunk_length = 3}, folder(), {},
                           [&](const std::string& who) {
                             holder = who;
                             waits.set_value();
                           });
        });
        waits.get_future().wait();
      });
  other.join();
  EXPECT_FALSE(first.reused);
  EXPECT_TRUE(second->reused);
  EXPECT_TRUE(holder.starts_with("process ")) << holder;
  EXPECT_FALSE(fs::exists(folder() + ".lock"));
}

// Counts what it is given.
class CountingTokenizer : public ByteTokenizer {
 public:
  std::vector<int32_t> encode(std::string_view text) const override {
    bytes += static_cast<int64_t>(text.size());
    return ByteTokenizer::encode(text);
  }
  int64_t words_cut() const override { return bytes; }
  mutable std::atomic<int64_t> bytes = 0;
};

// Texts of several waves of blocks and many shards.
class UnfinishedPreparation : public Prepare {
 protected:
  UnfinishedPreparation() {
    for (int f = 0; f < 3; ++f) {
      std::string content;
      while (content.size() < 3 << 20) {
        for (const std::string& line : sample_lines(2000, f)) content += line + "\n";
      }
      text(concat("more", f, ".txt"), content);
    }
    sound_ = prepared(options_).tokens.index();
    for (const auto& shard : sound_.shards) bytes_ += scratch_.read("set/" + shard.file);
    fs::remove_all(folder());
  }

  // Kills a process that prepares when it has tokenized so many waves.
  void kill_after(int waves, const PrepareOptions& options) {
    const pid_t child = ::fork();
    if (child == 0) {
      prepare(files_, ByteTokenizer(), options, folder(), [&](int64_t, int64_t) {
        if (--waves == 0) ::raise(SIGKILL);
      });
      ::_exit(0);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
  }

  void expect_sound() {
    const TokenSet set = TokenSet::open(folder());
    set.verify();
    EXPECT_EQ(to_json(set.index()), to_json(sound_));
    std::string bytes;
    for (const auto& shard : sound_.shards) bytes += scratch_.read("set/" + shard.file);
    EXPECT_EQ(bytes, bytes_);
    EXPECT_EQ(std::distance(fs::directory_iterator(folder()), {}),
              static_cast<int64_t>(sound_.shards.size()) + 1);
    EXPECT_EQ(std::distance(fs::directory_iterator(scratch_ / ""), {}), 5) << "texts and set";
  }

  const PrepareOptions options_{.chunk_length = 64, .threads = 1, .max_shard_bytes = 600'000};
  TokenIndex sound_;
  std::string bytes_;
};

TEST_F(UnfinishedPreparation, GoesOnAfterAKill) {
  kill_after(3, options_);
  kill_after(1, options_);  // it gained nothing and lost nothing
  const CountingTokenizer rest, all;
  const Prepared continued = prepared(options_, rest);
  EXPECT_FALSE(continued.reused);
  expect_sound();
  fs::remove_all(folder());
  prepared(options_, all);
  EXPECT_LT(rest.bytes, all.bytes * 3 / 4);
  EXPECT_GT(rest.bytes, all.bytes / 3);
}

TEST_F(UnfinishedPreparation, GoesOnAfterAnErrorWithItsCounts) {
  const CountingTokenizer tokenizer;
  int waves = 0;
  const auto stop = [&](int64_t, int64_t) {
    if (++waves == 3) fail("stopped");
  };
  EXPECT_THROW(prepare(files_, tokenizer, options_, folder(), stop), Error);
  std::vector<int64_t> done;
  const Prepared continued = prepare(files_, tokenizer, options_, folder(),
                                     [&](int64_t bytes, int64_t) { done.push_back(bytes); });
  expect_sound();
  EXPECT_GT(done.front(), done.back() / 3) << "its progress begins where it goes on";
  const CountingTokenizer once;
  fs::remove_all(folder());
  ASSERT_EQ(continued.warnings.size(), 1u);
  EXPECT_EQ(continued.warnings, prepared(options_, once).warnings) << "words that were cut";
}

TEST_F(UnfinishedPreparation, OfAnotherPreparationIsOfNoUse) {
  for (const PrepareOptions& other :
       {PrepareOptions{.chunk_length = 32, .threads = 1, .max_shard_bytes = 600'000},
        PrepareOptions{.chunk_length = 64, .threads = 1, .max_shard_bytes = 500'000}}) {
    kill_after(3, other);
    ASSERT_TRUE(fs::exists(folder() + ".partial/index.json"));
    prepared(options_);
    expect_sound();
    fs::remove_all(folder());
  }
  kill_after(3, options_);
  fs::resize_file(folder() + ".partial/tokens-00001.bin", 100);
  prepared(options_);
  expect_sound();
}

TEST_F(Prepare, LeavesNothingElseBehind) {
  prepared();
  prepared({.chunk_length = 4});
  EXPECT_THROW(prepared({.chunk_length = 5000}), Error);
  EXPECT_EQ(std::distance(fs::directory_iterator(scratch_ / ""), {}), 2);  // a.txt and the set
  EXPECT_EQ(TokenSet::open(folder()).index().chunk_length, 4);
}

TEST_F(Prepare, ErrorSaysHowManyTokensThereWereAndAreNeeded) {
  const std::string error = error_of([&] { prepared({.chunk_length = 12}); });
  EXPECT_NE(error.find("11 tokens, and one sequence needs 12"), std::string::npos) << error;
}

TEST_F(Prepare, DoesNotTouchAForeignFolder) {
  scratch_.write("set/precious.txt", "text");
  EXPECT_THROW(prepared(), Error);
  scratch_.write("set/index.json", "{\"format\": \"something else\"}");
  EXPECT_THROW(prepared(), Error);
  EXPECT_EQ(scratch_.read("set/precious.txt"), "text");
}

TEST_F(Prepare, MakesADamagedSetAnew) {
  prepared();
  fs::resize_file(folder() + "/tokens-00000.bin", 4);
  const Prepared again = prepared();
  EXPECT_FALSE(again.reused);
  ASSERT_EQ(again.warnings.size(), 1u);
  EXPECT_EQ(again.tokens.chunks(), 3);
}

TEST_F(Prepare, MakesASetWithoutAReadableIndexAnew) {
  prepared();
  scratch_.write("set/index.json", scratch_.read("set/index.json").substr(0, 40));
  const Prepared again = prepared();
  EXPECT_FALSE(again.reused);
  ASSERT_EQ(again.warnings.size(), 1u);
  EXPECT_NE(again.warnings[0].find("index.json is damaged"), std::string::npos);
  EXPECT_TRUE(prepared().reused);
}

TEST_F(Prepare, MakesASetWithAFlippedBitAnew) {
  const PrepareOptions options{.chunk_length = 3, .max_shard_bytes = 6};
  const auto sound = chunks(prepared(options).tokens);
  std::string bytes = scratch_.read("set/tokens-00001.bin");
  bytes[2] ^= 1;
  scratch_.write("set/tokens-00001.bin", bytes);
  EXPECT_TRUE(prepared(options).reused) << "checksums are compared on demand";
  PrepareOptions verifying = options;
  verifying.verify = true;
  const Prepared again = prepared(verifying);
  EXPECT_FALSE(again.reused);
  ASSERT_EQ(again.warnings.size(), 1u);
  EXPECT_NE(again.warnings[0].find("tokens-00001.bin is damaged"), std::string::npos)
      << again.warnings[0];
  EXPECT_EQ(chunks(again.tokens), sound);
  EXPECT_TRUE(prepared(options).reused);
}

TEST_F(Prepare, HandsOnTheWarningsOfTheCorpus) {
  text("empty.txt", "");
  EXPECT_EQ(prepared().warnings.size(), 1u);
  EXPECT_EQ(prepared().warnings.size(), 1u);  // reused
}

TEST_F(Prepare, ReportsProgressUpToTheEndAndStopsWhenItThrows) {
  std::vector<int64_t> done;
  prepare(files_, ByteTokenizer(), {.chunk_length = 3}, folder(),
          [&](int64_t bytes, int64_t total) {
            EXPECT_EQ(total, 12);
            done.push_back(bytes);
          });
  EXPECT_TRUE(std::ranges::is_sorted(done));
  EXPECT_EQ(done.back(), 12);
  const auto stop = [](int64_t, int64_t) { fail("stopped"); };
  EXPECT_EQ(error_of([&] {
              prepare(files_, ByteTokenizer(), {.chunk_length = 3}, scratch_ / "other", stop);
            }),
            "stopped");
  EXPECT_FALSE(fs::exists(scratch_ / "other"));
}

TEST_F(Prepare, PassesOnTheErrorsOfTheTokenizer) {
  class Broken : public ByteTokenizer {
    std::vector<int32_t> encode(std::string_view) const override { fail("cannot encode"); }
  };
  EXPECT_EQ(error_of([&] { prepared({.chunk_length = 3, .threads = 3}, Broken()); }),
            "cannot encode");
}

TEST_F(Prepare, WorksWithASlashAtTheEndAndInNewFolders) {
  const std::string deep = scratch_ / "x/y/set/";
  EXPECT_EQ(prepare(files_, ByteTokenizer(), {.chunk_length = 3}, deep).tokens.chunks(), 3);
}

using TokenSetFiles = Prepare;

TEST_F(TokenSetFiles, CountsAreWholeNumbers) {
  prepared();
  const std::string index = scratch_.read("set/index.json");
  for (const char* number : {"3e43", "1.5", "\"3\""}) {  // the first found by fuzzing
    std::string changed = index;
    const std::string key = "\"chunk_length\": ";
    changed.replace(changed.find(key) + key.size(), 1, number);
    scratch_.write("set/index.json", changed);
    const std::string error = error_of([&] { TokenSet::open(folder()); });
    EXPECT_NE(error.find("chunk_length is "), std::string::npos) << error;
  }
}

TEST_F(TokenSetFiles, ErrorNamesATruncatedOrMissingShard) {
  prepared();
  fs::resize_file(folder() + "/tokens-00000.bin", 17);
  EXPECT_NE(error_of([&] {
              TokenSet::open(folder());
            }).find("tokens-00000.bin has 17 bytes; its index says 18"),
            std::string::npos);
  fs::remove(folder() + "/tokens-00000.bin");
  EXPECT_NE(error_of([&] { TokenSet::open(folder()); }).find("tokens-00000.bin"),
            std::string::npos);
}

TEST_F(TokenSetFiles, VerifyNamesTheShardWithAFlippedBit) {
  prepared({.chunk_length = 3, .max_shard_bytes = 6});
  std::string bytes = scratch_.read("set/tokens-00001.bin");
  bytes[2] ^= 1;
  scratch_.write("set/tokens-00001.bin", bytes);
  const TokenSet set = TokenSet::open(folder());
  EXPECT_NE(error_of([&] { set.verify(); }).find("tokens-00001.bin is damaged"), std::string::npos);
}

TEST_F(TokenSetFiles, NeverHandsOutAnIdBeyondTheVocabulary) {
  prepared();
  std::string bytes = scratch_.read("set/tokens-00000.bin");
  bytes[1] = '\x7f';
  scratch_.write("set/tokens-00000.bin", bytes);
  EXPECT_NE(
      error_of([&] { chunks(TokenSet::open(folder())); }).find("beyond the vocabulary of 300"),
      std::string::npos);
}

TEST_F(TokenSetFiles, RefusesAForeignOrInconsistentIndex) {
  prepared();
  const Json good = parse_json(scratch_.read("set/index.json"));
  const auto error_with = [&](const char* key, const Json& value) {
    Json json = good;
    json[key] = value;
    scratch_.write("set/index.json", dump(json));
    return error_of([&] { TokenSet::open(folder()); });
  };
  EXPECT_EQ(error_with("documents", 3), "");
  EXPECT_NE(error_with("format", "quench-tokens-2").find("quench-tokens-1"), std::string::npos);
  EXPECT_NE(error_with("dtype", "float32").find("uint16 or uint32"), std::string::npos);
  EXPECT_NE(error_with("dtype", "uint32").find("its index says 36"), std::string::npos);
  EXPECT_NE(error_with("chunk_length", 0).find("chunk_length"), std::string::npos);
  EXPECT_NE(error_with("chunk_length", 2).find("whole chunks of 2"), std::string::npos);
  EXPECT_NE(error_with("chunk_length", "three").find("index.json"), std::string::npos);
  EXPECT_NE(error_with("shards", Json::array()).find("no shards"), std::string::npos);
  scratch_.write("set/index.json", "{");
  EXPECT_NE(error_of([&] { TokenSet::open(folder()); }).find("index.json"), std::string::npos);
  EXPECT_NE(error_of([&] { TokenSet::open(scratch_ / "none"); }).find("none"), std::string::npos);
}

TEST_F(TokenSetFiles, TokensAreReadAcrossChunksAndShards) {
  const TokenSet set = prepared({.chunk_length = 3, .max_shard_bytes = 6}).tokens;  // three shards
  ASSERT_EQ(set.index().shards.size(), 3u);
  std::vector<int64_t> all;
  for (const std::vector<int64_t>& chunk : chunks(set))
    all.insert(all.end(), chunk.begin(), chunk.end());
  for (int64_t first = 0; first <= 9; ++first)
    for (int64_t count = 0; first + count <= 9; ++count) {
      std::vector<int64_t> out(static_cast<size_t>(count) + 1, -1);
      set.tokens(first, count, out.data());
      EXPECT_TRUE(std::equal(out.begin(), out.end() - 1, all.begin() + first));
      EXPECT_EQ(out.back(), -1);
    }
  int64_t out[10];
  EXPECT_NE(
      error_of([&] { set.tokens(8, 2, out); }).find("there are no tokens 8 to 9; expected 0 to 8"),
      std::string::npos);
  EXPECT_THROW(set.tokens(-1, 2, out), Error);
}

}  // namespace
}  // namespace quench
