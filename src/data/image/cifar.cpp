#include <fstream>
#include <iterator>

#include "data/image/memory_source.h"

namespace quench {
namespace {

constexpr int kSide = 32;
constexpr size_t kPixelBytes = size_t{3} * kSide * kSide;

// One label a line; numbers stand in where the file is missing.
std::vector<std::string> read_names(const std::string& path, int classes) {
  std::vector<std::string> names;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (!line.empty()) names.push_back(line);
  }
  if (names.empty()) {
    for (int i = 0; i < classes; ++i) names.push_back(std::to_string(i));
  }
  check(names.size() == static_cast<size_t>(classes), path, ": ", names.size(),
        " class names, expected ", classes);
  return names;
}

// Records of `label_bytes` labels (the last one counts) and 32 x 32 x 3 pixels.
void append_records(const std::string& path, size_t label_bytes, StoredImages& out) {
  std::ifstream file(path, std::ios::binary);
  check(file.good(), path, ": cannot open this file of CIFAR's binary version");
  const std::vector<uint8_t> bytes{std::istreambuf_iterator<char>(file), {}};
  const size_t record = label_bytes + kPixelBytes;
  check(!bytes.empty() && bytes.size() % record == 0, path, ": ", bytes.size(),
        " bytes, expected a multiple of ", record, "; perhaps an incomplete download?");
  for (size_t at = 0; at < bytes.size(); at += record) {
    const auto pixels = bytes.begin() + static_cast<std::ptrdiff_t>(at + label_bytes);
    out.labels.push_back(pixels[-1]);
    out.pixels.insert(out.pixels.end(), pixels, pixels + kPixelBytes);
  }
}

ImageSourcePtr read_cifar(const std::string& folder, const std::vector<std::string>& files,
                          size_t label_bytes, const std::string& names_file, int classes,
                          OnError on_error) {
  StoredImages stored{.name = folder, .width = kSide, .height = kSide, .channels = 3};
  stored.class_names = read_names(folder + "/" + names_file, classes);
  for (const std::string& file : files) append_records(folder + "/" + file, label_bytes, stored);
  return std::make_shared<MemorySource>(std::move(stored), on_error);
}

}  // namespace

ImageSourcePtr cifar10(const std::string& folder, Subset subset, OnError on_error) {
  std::vector<std::string> files{"test_batch.bin"};
  if (subset == Subset::kTrain) {
    files = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
             "data_batch_5.bin"};
  }
  return read_cifar(folder, files, 1, "batches.meta.txt", 10, on_error);
}

ImageSourcePtr cifar100(const std::string& folder, Subset subset, OnError on_error) {
  return read_cifar(folder, {subset == Subset::kTrain ? "train.bin" : "test.bin"}, 2,
                    "fine_label_names.txt", 100, on_error);
}

}  // namespace quench
