#include "io/shards.h"

#include "base/error.h"
#include "io/atomic_file.h"
#include "io/strict_json.h"

namespace quench {

namespace fs = std::filesystem;

std::map<std::string, at::Tensor> read_shards(const fs::path& index,
                                              const ReadTensors& read_shard) {
  const std::string file = index.string();
  const nlohmann::json json = parse_strictly(read_file(index), file + ": the index");
  check(json.is_object() && json.contains("weight_map") && json["weight_map"].is_object(), file,
        ": not an index of shards (a JSON object with an object \"weight_map\")");
  std::map<std::string, std::map<std::string, at::Tensor>> shards;
  std::map<std::string, at::Tensor> tensors;
  for (const auto& [name, value] : json["weight_map"].items()) {
    const std::string shard = value.is_string() ? value.get<std::string>() : "";
    check(!shard.empty() && fs::path(shard).filename() == shard, file, ": tensor '", name,
          "' should lie in a file beside the index, not in ", dump(value));
    if (!shards.contains(shard)) shards[shard] = read_shard(index.parent_path() / shard);
    const auto found = shards[shard].find(name);
    check(found != shards[shard].end(), file, ": tensor '", name, "' is not in ", shard);
    tensors.emplace(name, found->second);
  }
  return tensors;
}

}  // namespace quench
