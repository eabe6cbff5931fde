#include "io/pickle.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <string_view>

#include "base/error.h"
#include "io/mapped_file.h"
#include "io/shards.h"
#include "io/unpickler.h"
#include "io/zip.h"

namespace fs = std::filesystem;

namespace quench {
namespace {

static_assert(std::endian::native == std::endian::little, "storages are little-endian");

// The entry as a 1-dimensional tensor: a view of the mapped file where that is aligned, else a
// copy.
at::Tensor storage_of(const std::shared_ptr<MappedFile>& mapped, std::string_view entry,
                      at::ScalarType dtype, const std::string& where) {
  const size_t width = at::elementSize(dtype);
  check(entry.size() % width == 0, where, ": its size of ", entry.size(),
        " bytes is no multiple of ", width);
  const auto size = static_cast<int64_t>(entry.size() / width);
  if (size == 0) return at::empty({0}, dtype);
  if (reinterpret_cast<uintptr_t>(entry.data()) % width == 0) {
    char* data = mapped->data() + (entry.data() - mapped->data());
    return at::from_blob(
        data, {size}, [mapped](void*) {}, at::dtype(dtype));
  }
  at::Tensor copy = at::empty({size}, dtype);
  std::memcpy(copy.data_ptr(), entry.data(), entry.size());
  return copy;
}

// All entries lie in one folder, whose name does not matter: .../data.pkl, .../data/KEY.
std::map<std::string, at::Tensor> read_archive(const fs::path& path) {
  const std::string file = path.string();
  const auto mapped = std::make_shared<MappedFile>(path);
  const std::string_view content(mapped->data(), mapped->size());
  // Before 1.6, torch.save wrote a pickled number first.
  check(!content.starts_with("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"), file,
        " has the format of torch < 1.6; rewrite it with a newer one: "
        "torch.save(torch.load(FILE, map_location='cpu'), FILE)");
  check(content.starts_with("PK\x03\x04"), file, " is not a file of torch.save (a zip file)");
  const auto entries = stored_entries(content, file);
  const auto program = std::find_if(entries.begin(), entries.end(), [](const auto& entry) {
    return entry.first.ends_with("/data.pkl");
  });
  check(program != entries.end(), file, " is not a file of torch.save: it has no data.pkl");
  const std::string root = program->first.substr(0, program->first.size() - 8);
  const auto order = entries.find(root + "byteorder");
  check(order == entries.end() || order->second == "little", file, ": expected little-endian data");

  std::map<std::string, at::Tensor> storages;
  const auto load = [&](at::ScalarType dtype, const std::string& key, int64_t size) {
    const std::string where = file + ": storage '" + key + "'";
    auto storage = storages.find(key);
    if (storage == storages.end()) {
      const auto entry = entries.find(root + "data/" + key);
      check(entry != entries.end(), where, " is missing");
      storage = storages.emplace(key, storage_of(mapped, entry->second, dtype, where)).first;
    }
    check(storage->second.scalar_type() == dtype && storage->second.numel() == size, where,
          ": expected ", size, " elements of ", dtype, ", got ", storage->second.numel(), " of ",
          storage->second.scalar_type());
    return storage->second;
  };
  return unpickle(program->second, load, file + ": data.pkl");
}

}  // namespace

std::map<std::string, at::Tensor> read_pickle(const fs::path& path) {
  return path.string().ends_with(".index.json") ? read_shards(path, read_archive)
                                                : read_archive(path);
}

}  // namespace quench
