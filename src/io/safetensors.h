// safetensors, the file format of every tensor that quench reads and writes
// (https://github.com/huggingface/safetensors):
//
//   8 bytes    length of the header, little-endian
//   header     JSON: {"name": {"dtype", "shape", "data_offsets": [begin, end)}, ...,
//              "__metadata__": {string: string}}, padded with spaces
//   data       the tensors, row-major and little-endian, without holes or overlaps
//
// A file that breaks any of these rules is refused with one sentence; no file can make the reader
// crash or allocate more than its own size. Dtypes: F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace quench {

struct SafetensorsEntry {
  std::string name;
  at::ScalarType dtype;
  std::vector<int64_t> shape;
  uint64_t begin;  // bytes [begin, end) of the data
  uint64_t end;
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> tensors;  // as they lie in the file
  std::map<std::string, std::string> metadata;
  uint64_t data_start;  // of the data in the file, in bytes
};

// Reads and checks the header of one file; throws Error.
SafetensorsHeader read_safetensors_header(const std::filesystem::path& path);

// Reads one file, or a sharded set through its index (`*.index.json`). Throws Error.
//
// Nothing is copied: the tensors lie in a private memory map of the file, which lives as long as
// any of them. They may be written to (the file never changes), and the file may be replaced or
// deleted meanwhile, but not overwritten in place.
std::map<std::string, at::Tensor> read_safetensors(const std::filesystem::path& path);

// Writes tensors of any device and strides, whole or not at all. Wider dtypes come first in the
// file, which keeps every tensor aligned; within a width the given order stays. Throws Error.
void write_safetensors(const std::filesystem::path& path,
                       const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace quench
