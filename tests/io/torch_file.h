// Files as torch.save writes them.
#pragma once

#include <ATen/ATen.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace quench {

template <class T>
std::string little_endian(T value) {
  return {reinterpret_cast<const char*>(&value), sizeof(T)};
}

// A zip file with these entries, stored. With `zip64`, sizes and offsets stand in the 64-bit
// fields.
inline std::string zip_of(const std::vector<std::pair<std::string, std::string>>& entries,
                          bool zip64 = false) {
  const auto u16 = little_endian<uint16_t>;
  const auto u32 = little_endian<uint32_t>;
  const auto u64 = little_endian<uint64_t>;
  std::string file, directory;
  for (const auto& [name, content] : entries) {
    const auto name_size = static_cast<uint16_t>(name.size());
    const auto size = static_cast<uint32_t>(content.size());
    const auto offset = static_cast<uint32_t>(file.size());
    const std::string extra =
        zip64 ? u16(1) + u16(24) + u64(size) + u64(size) + u64(offset) : std::string();
    const uint32_t in64 = 0xffffffff;
    const std::string common = u16(45) + u16(0) + u16(0) + u32(0) + u32(0) +
                               u32(zip64 ? in64 : size) + u32(zip64 ? in64 : size) + u16(name_size);
    file += "PK\x03\x04" + common + u16(0) + name + content;
    directory += "PK\x01\x02" + u16(45) + common + u16(static_cast<uint16_t>(extra.size())) +
                 u16(0) + u16(0) + u16(0) + u32(0) + u32(zip64 ? in64 : offset) + name + extra;
  }
  const auto begin = static_cast<uint32_t>(file.size());
  const auto count = static_cast<uint16_t>(entries.size());
  file += directory;
  if (zip64) {
    const uint64_t end = file.size();
    file += "PK\x06\x06" + u64(44) + u16(45) + u16(45) + u32(0) + u32(0) + u64(count) + u64(count) +
            u64(directory.size()) + u64(begin);
    file += "PK\x06\x07" + u32(0) + u64(end) + u32(1);
  }
  return file + "PK\x05\x06" + u16(0) + u16(0) + u16(count) + u16(count) +
         u32(static_cast<uint32_t>(directory.size())) + u32(zip64 ? 0xffffffff : begin) + u16(0);
}

inline std::string text(const std::string& value) {
  return "X" + little_endian(static_cast<uint32_t>(value.size())) + value;
}

inline std::string integer(int32_t value) { return "J" + little_endian(value); }

struct TensorArguments {
  std::string type = "FloatStorage";
  std::string key = "0";
  int32_t elements = 4;
  int32_t offset = 0;
  std::string sizes = integer(4) + "\x85";  // a tuple of one
  std::string strides = integer(1) + "\x85";
};

// torch._utils._rebuild_tensor_v2(...).
inline std::string rebuilt(const TensorArguments& a) {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\n" + a.type + "\n" +
         text(a.key) + text("cpu") + integer(a.elements) + "tQ" + integer(a.offset) + a.sizes +
         a.strides + "\x89" + "ccollections\nOrderedDict\n)RtR";
}

// A state dictionary of float32 tensors.
inline std::string torch_file(const std::map<std::string, at::Tensor>& tensors) {
  const auto tuple = [](at::IntArrayRef values) {
    std::string program = "(";
    for (const int64_t value : values) program += integer(static_cast<int32_t>(value));
    return program + "t";
  };
  std::string program = "\x80\x02}(";
  std::vector<std::pair<std::string, std::string>> entries;
  for (const auto& [name, tensor] : tensors) {
    const at::Tensor x = tensor.contiguous();
    const std::string key = std::to_string(entries.size());
    program += text(name) + rebuilt({.key = key,
                                     .elements = static_cast<int32_t>(x.numel()),
                                     .sizes = tuple(x.sizes()),
                                     .strides = tuple(x.strides())});
    entries.emplace_back("a/data/" + key,
                         std::string(static_cast<const char*>(x.const_data_ptr()), x.nbytes()));
  }
  entries.emplace_back("a/data.pkl", program + "u.");
  return zip_of(entries);
}

}  // namespace quench
