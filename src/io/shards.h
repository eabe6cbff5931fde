// Checkpoints in several files, beside an index {"weight_map": {tensor name: file}}.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <functional>
#include <map>
#include <string>

namespace quench {

using ReadTensors =
    std::function<std::map<std::string, at::Tensor>(const std::filesystem::path& file)>;

// The tensors that the index names, from the files beside it. Throws Error.
std::map<std::string, at::Tensor> read_shards(const std::filesystem::path& index,
                                              const ReadTensors& read_shard);

}  // namespace quench
