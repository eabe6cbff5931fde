#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <memory>

#include "data/image/memory_source.h"

namespace quench {
namespace {

// The array of unsigned bytes in an IDX file: 0, 0, type 8, rank, big-endian sizes, data.
struct IdxArray {
  std::string path;
  std::vector<size_t> sizes;
  std::vector<uint8_t> bytes;
};

class GzipFile {
 public:
  // zlib reads a plain file as it is.
  explicit GzipFile(const std::string& path)
      : path_(path), file_(gzopen(path.c_str(), "rb"), gzclose) {
    check(file_ != nullptr, path, ": cannot open this IDX file");
  }

  void read(uint8_t* out, size_t count) {
    const auto want = static_cast<unsigned>(count);
    check(gzread(file_.get(), out, want) == static_cast<int>(want), path_,
          ": the file ends early or is corrupt; perhaps an incomplete download?");
  }

  // Takes memory as the data come: a header may promise more than the file has.
  std::vector<uint8_t> read(size_t count) {
    constexpr size_t kChunk = size_t{1} << 24;
    std::vector<uint8_t> bytes;
    while (bytes.size() < count) {
      const size_t begin = bytes.size(), want = std::min(count - begin, kChunk);
      bytes.resize(begin + want);
      read(bytes.data() + begin, want);
    }
    return bytes;
  }

  bool at_end() { return gzgetc(file_.get()) == -1; }

 private:
  std::string path_;
  std::unique_ptr<gzFile_s, int (*)(gzFile)> file_;
};

IdxArray read_idx(const std::string& plain_path, size_t rank) {
  const bool plain = std::filesystem::exists(plain_path);
  IdxArray array{.path = plain ? plain_path : plain_path + ".gz", .sizes = {}, .bytes = {}};
  GzipFile file(array.path);
  uint8_t word[4];
  file.read(word, 4);
  check(word[0] == 0 && word[1] == 0 && word[2] == 8 && word[3] == rank, array.path,
        ": not an IDX file of unsigned bytes with ", rank, " dimensions");
  size_t total = 1;
  for (size_t i = 0; i < rank; ++i) {
    file.read(word, 4);
    array.sizes.push_back(size_t{word[0]} << 24 | size_t{word[1]} << 16 | size_t{word[2]} << 8 |
                          word[3]);
    check(array.sizes.back() > 0 && array.sizes.back() <= (size_t{1} << 36) / total, array.path,
          ": its header names an impossible size, ", array.sizes.back());
    total *= array.sizes.back();
  }
  array.bytes = file.read(total);
  check(file.at_end(), array.path, ": longer than its header says");
  return array;
}

}  // namespace

ImageSourcePtr mnist(const std::string& folder, Subset subset, OnError on_error) {
  const std::string prefix = folder + (subset == Subset::kTrain ? "/train-" : "/t10k-");
  IdxArray images = read_idx(prefix + "images-idx3-ubyte", 3);
  IdxArray labels = read_idx(prefix + "labels-idx1-ubyte", 1);
  check(images.sizes[0] == labels.sizes[0], images.path, ": ", images.sizes[0], " images, but ",
        labels.path, " has ", labels.sizes[0], " labels");
  StoredImages stored{.name = labels.path,
                      .width = static_cast<int>(images.sizes[2]),
                      .height = static_cast<int>(images.sizes[1]),
                      .channels = 1,
                      .pixels = std::move(images.bytes),
                      .labels = std::move(labels.bytes)};
  for (int i = 0; i < 10; ++i) stored.class_names.push_back(std::to_string(i));
  return std::make_shared<MemorySource>(std::move(stored), on_error);
}

}  // namespace quench
