#include "data/token_set.h"

#include <algorithm>
#include <bit>
#include <exception>
#include <filesystem>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "io/atomic_file.h"

namespace quench {

static_assert(std::endian::native == std::endian::little, "ids are mapped in place");

namespace {

namespace fs = std::filesystem;

}  // namespace

int64_t id_size(const TokenIndex& index) { return index.dtype == "uint16" ? 2 : 4; }

Json to_json(const TokenIndex& index) {
  Json shards = Json::array();
  for (const auto& shard : index.shards) {
    shards.push_back(
        {{"file", shard.file}, {"tokens", shard.tokens}, {"checksum", shard.checksum}});
  }
  return {{"format", kTokenSetFormat},
          {"dtype", index.dtype},
          {"vocab_size", index.vocab_size},
          {"chunk_length", index.chunk_length},
          {"documents", index.documents},
          {"tokenizer", index.tokenizer},
          {"key", index.key},
          {"shards", shards}};
}

namespace {

int64_t count(const Json& json, const char* key) {
  const Json& value = json.at(key);
  check(value.is_number_integer(), key, " is ", dump(value), "; expected a whole number.");
  return value.get<int64_t>();
}

TokenIndex from_json(const Json& json) {
  TokenIndex index;
  check(json.at("format") == kTokenSetFormat, "the format is ", json.at("format"), "; expected \"",
        kTokenSetFormat, "\".");
  index.dtype = json.at("dtype");
  index.vocab_size = count(json, "vocab_size");
  index.chunk_length = count(json, "chunk_length");
  index.documents = count(json, "documents");
  index.tokenizer = json.at("tokenizer");
  index.key = json.at("key");
  for (const Json& shard : json.at("shards")) {
    index.shards.push_back({shard.at("file"), count(shard, "tokens"), shard.at("checksum")});
  }
  check(index.dtype == "uint16" || index.dtype == "uint32", "dtype is \"", index.dtype,
        "\"; expected uint16 or uint32.");
  check(index.chunk_length > 0, "chunk_length is ", index.chunk_length, "; expected 1 or more.");
  check(!index.shards.empty(), "it names no shards.");
  const int64_t capacity = index.shards.front().tokens;
  for (const auto& shard : index.shards) {
    const bool last = &shard == &index.shards.back();
    check(shard.tokens > 0 && shard.tokens % index.chunk_length == 0 &&
              (last ? shard.tokens <= capacity : shard.tokens == capacity),
          shard.file, " has ", shard.tokens, " tokens; expected whole chunks of ",
          index.chunk_length, ", equally many in every shard but the last.");
  }
  return index;
}

}  // namespace

TokenIndex read_index(const std::string& folder) {
  const std::string file = fs::path(folder) / kIndexFile;
  check(fs::exists(file), folder, " is not a prepared token set: it has no ", kIndexFile, ".");
  const std::string content = read_file(file);
  try {
    return from_json(parse_json(content));
  } catch (const std::exception& error) {
    fail(file, " is not the index of a token set: ", error.what());
  }
}

TokenSet TokenSet::open(const std::string& folder) {
  TokenSet set;
  set.folder_ = folder;
  set.index_ = read_index(folder);
  for (const auto& shard : set.index_.shards) {
    const fs::path file = fs::path(folder) / shard.file;
    const auto mapped = std::make_shared<const MappedFile>(file);
    const auto bytes = static_cast<size_t>(shard.tokens * id_size(set.index_));
    check(mapped->size() == bytes, file.string(), " has ", mapped->size(),
          " bytes; its index says ", bytes, ". Perhaps an incomplete copy?");
    set.shards_.push_back(mapped);
    set.chunks_ += shard.tokens / set.index_.chunk_length;
  }
  return set;
}

template <class Id>
void TokenSet::copy(size_t shard, int64_t first, int64_t count, int64_t* out) const {
  const Id* ids = reinterpret_cast<const Id*>(shards_[shard]->data()) + first;
  std::copy(ids, ids + count, out);
  const int64_t largest = *std::max_element(out, out + count);
  check(largest < index_.vocab_size, folder_, "/", index_.shards[shard].file,
        " is damaged: it holds the id ", largest, ", beyond the vocabulary of ", index_.vocab_size,
        ".");
}

void TokenSet::tokens(int64_t first, int64_t count, int64_t* out) const {
  const int64_t all = chunks_ * index_.chunk_length;
  check(first >= 0 && count >= 0 && first <= all - count, folder_, ": there are no tokens ", first,
        " to ", first + count - 1, "; expected 0 to ", all - 1, ".");
  const int64_t capacity = index_.shards.front().tokens;
  while (count > 0) {
    const auto shard = static_cast<size_t>(first / capacity);
    const int64_t begin = first % capacity,
                  part = std::min(count, index_.shards[shard].tokens - begin);
    if (id_size(index_) == 2) {
      copy<uint16_t>(shard, begin, part, out);
    } else {
      copy<uint32_t>(shard, begin, part, out);
    }
    first += part;
    count -= part;
    out += part;
  }
}

void TokenSet::verify() const {
  for (size_t s = 0; s < shards_.size(); ++s) {
    const auto& shard = index_.shards[s];
    const std::string checksum = content_hash({shards_[s]->data(), shards_[s]->size()});
    check(checksum == shard.checksum, folder_, "/", shard.file, " is damaged: its checksum is ",
          checksum, "; its index says ", shard.checksum, ".");
  }
}

}  // namespace quench
