// Prepared token sets: text, tokenized once and cut into chunks of equal length, in a folder that
// is memory-mapped. prepare.h makes them.
//
//   index.json         what the set was made from; its shards, each with its size and checksum
//   tokens-00000.bin   whole chunks of ids, little endian: uint16 for a vocabulary of up to 65536,
//                      else uint32; equally many in every shard but the last
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/json.h"
#include "io/mapped_file.h"

namespace quench {

inline constexpr const char* kTokenSetFormat = "quench-tokens-1";
inline constexpr const char* kIndexFile = "index.json";

// What index.json says.
struct TokenIndex {
  struct Shard {
    std::string file;
    int64_t tokens = 0;
    std::string checksum;
  };
  std::string dtype;  // "uint16" or "uint32"
  int64_t vocab_size = 0;
  int64_t chunk_length = 0;
  int64_t documents = 0;
  std::string tokenizer;  // its hash
  std::string key;        // hash of everything that the set is a function of
  std::vector<Shard> shards;
};

int64_t id_size(const TokenIndex& index);  // bytes
Json to_json(const TokenIndex& index);

// Throws Error when the folder's index is missing, foreign or inconsistent.
TokenIndex read_index(const std::string& folder);

class TokenSet {
 public:
  // Throws Error when a file is missing, foreign, or not of the size that the index says.
  static TokenSet open(const std::string& folder);

  int64_t chunks() const { return chunks_; }
  const TokenIndex& index() const { return index_; }

  // Writes the ids [first, first + count) of all chunks, one behind the other, to `out`. Safe to
  // call from several threads. Throws Error when there are not so many, or an id is not below
  // vocab_size (a damaged shard).
  void tokens(int64_t first, int64_t count, int64_t* out) const;

  // Reads everything; throws Error naming the first shard whose checksum differs.
  void verify() const;

 private:
  template <class Id>
  void copy(size_t shard, int64_t first, int64_t count, int64_t* out) const;

  std::string folder_;
  TokenIndex index_;
  int64_t chunks_ = 0;
  std::vector<std::shared_ptr<const MappedFile>> shards_;
};

}  // namespace quench
