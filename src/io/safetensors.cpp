#include "io/safetensors.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <memory>
#include <set>
#include <string_view>
#include <system_error>

#include "base/error.h"
#include "base/json.h"
#include "io/atomic_file.h"
#include "io/mapped_file.h"
#include "io/shards.h"
#include "io/strict_json.h"

namespace fs = std::filesystem;

namespace quench {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

constexpr uint64_t kMaxHeaderSize = 100'000'000;  // as in the reference implementation
constexpr std::string_view kMetadata = "__metadata__";
constexpr std::array<std::pair<const char*, at::ScalarType>, 10> kDtypes{{
    {"F64", at::kDouble},
    {"F32", at::kFloat},
    {"F16", at::kHalf},
    {"BF16", at::kBFloat16},
    {"I64", at::kLong},
    {"I32", at::kInt},
    {"I16", at::kShort},
    {"I8", at::kChar},
    {"U8", at::kByte},
    {"BOOL", at::kBool},
}};

// --- reading the header ---------------------------------------------------------------------

at::ScalarType parse_dtype(const nlohmann::json& value, const std::string& where) {
  check(value.is_string(), where, ": dtype is ", dump(value), ", not a string");
  const auto& name = value.get_ref<const std::string&>();
  std::string known;
  for (const auto& [known_name, dtype] : kDtypes) {
    if (name == known_name) return dtype;
    known += concat(known.empty() ? "" : ", ", known_name);
  }
  fail(where, ": dtype '", name, "' is not supported; supported are ", known);
}

std::vector<int64_t> parse_shape(const nlohmann::json& value, const std::string& where) {
  check(value.is_array(), where, ": shape is ", dump(value), ", not a list");
  std::vector<int64_t> shape;
  for (const nlohmann::json& size : value) {
    check(size.is_number_unsigned() &&
              size.get<uint64_t>() <= uint64_t{std::numeric_limits<int64_t>::max()},
          where, ": shape ", dump(value), " holds ", dump(size), ", which is not a size");
    shape.push_back(size.get<int64_t>());
  }
  return shape;
}

// Bytes of a tensor, and a check that neither they nor any stride overflow 63 bits.
uint64_t checked_bytes(const SafetensorsEntry& entry, const std::string& where) {
  int64_t extent = static_cast<int64_t>(at::elementSize(entry.dtype));
  bool empty = false;
  for (const int64_t size : entry.shape) {
    empty |= size == 0;
    check(!__builtin_mul_overflow(extent, std::max<int64_t>(size, 1), &extent), where, ": shape ",
          dump(nlohmann::json(entry.shape)), " is too large");
  }
  return empty ? 0 : static_cast<uint64_t>(extent);
}

SafetensorsEntry parse_entry(const std::string& name, const nlohmann::json& value,
                             uint64_t data_size, const std::string& file) {
  const std::string where = concat(file, ": tensor '", name, "'");
  check(value.is_object(), where, " is described by ", dump(value), ", not by an object");
  for (const char* key : {"dtype", "shape", "data_offsets"}) {
    check(value.contains(key), where, ": ", key, " is missing");
  }
  const nlohmann::json& offsets = value["data_offsets"];
  check(offsets.is_array() && offsets.size() == 2 && offsets[0].is_number_unsigned() &&
            offsets[1].is_number_unsigned(),
        where, ": data_offsets is ", dump(offsets), ", not [begin, end]");
  const SafetensorsEntry entry{name, parse_dtype(value["dtype"], where),
                               parse_shape(value["shape"], where), offsets[0].get<uint64_t>(),
                               offsets[1].get<uint64_t>()};
  check(entry.begin <= entry.end, where, ": data_offsets ", dump(offsets),
        " end before they begin");
  check(entry.end <= data_size, where, ": data_offsets ", dump(offsets), " go beyond the ",
        data_size, " bytes of data in the file; perhaps an incomplete download?");
  const uint64_t bytes = checked_bytes(entry, where);
  check(entry.end - entry.begin == bytes, where, ": data_offsets ", dump(offsets), " hold ",
        entry.end - entry.begin, " bytes, but ", dump(value["dtype"]), " of shape ",
        dump(value["shape"]), " takes ", bytes);
  return entry;
}

std::map<std::string, std::string> parse_metadata(const nlohmann::json& value,
                                                  const std::string& file) {
  if (value.is_null()) return {};  // as some writers say that there is none
  check(value.is_object(), file, ": ", kMetadata, " is not an object");
  std::map<std::string, std::string> metadata;
  for (const auto& [key, text] : value.items()) {
    check(text.is_string(), file, ": ", kMetadata, " '", key, "' is ", dump(text),
          ", not a string");
    metadata[key] = text.get<std::string>();
  }
  return metadata;
}

// Sorts the tensors by place; each must begin where the one before it ends.
void check_layout(SafetensorsHeader& header, uint64_t data_size, const std::string& file) {
  std::sort(header.tensors.begin(), header.tensors.end(), [](const auto& a, const auto& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  uint64_t end = 0;
  std::string previous;
  for (const SafetensorsEntry& entry : header.tensors) {
    check(entry.begin >= end, file, ": tensors '", previous, "' and '", entry.name,
          "' overlap at byte ", entry.begin, " of the data");
    check(entry.begin == end, file, ": no tensor owns bytes ", end, " to ", entry.begin,
          " of the data, before tensor '", entry.name, "'");
    end = entry.end;
    previous = entry.name;
  }
  check(end == data_size, file, ": ", data_size - end, " bytes follow the last tensor");
}

SafetensorsHeader parse_header(const MappedFile& mapped, const std::string& file) {
  check(mapped.size() >= 8, file, ": too short (", mapped.size(),
        " bytes) for a safetensors file; perhaps an incomplete download?");
  uint64_t header_size = 0;
  std::memcpy(&header_size, mapped.data(), 8);
  const uint64_t rest = mapped.size() - 8;
  check(header_size <= kMaxHeaderSize, file, ": a header of ", header_size,
        " bytes is beyond the format's limit of ", kMaxHeaderSize, "; is this a safetensors file?");
  check(header_size <= rest, file, ": the header should take ", header_size, " bytes, but only ",
        rest, " follow; perhaps an incomplete download?");
  const nlohmann::json json =
      parse_strictly({mapped.data() + 8, header_size}, file + ": the header");
  check(json.is_object(), file, ": the header is not a JSON object");

  SafetensorsHeader header;
  header.data_start = 8 + header_size;
  const uint64_t data_size = rest - header_size;
  for (const auto& [name, value] : json.items()) {
    if (name == kMetadata) {
      header.metadata = parse_metadata(value, file);
    } else {
      header.tensors.push_back(parse_entry(name, value, data_size, file));
    }
  }
  check_layout(header, data_size, file);
  return header;
}

// --- reading tensors ------------------------------------------------------------------------

at::Tensor view_of(const std::shared_ptr<MappedFile>& mapped, const SafetensorsHeader& header,
                   const SafetensorsEntry& entry, const std::string& file) {
  if (entry.begin == entry.end) return at::empty(entry.shape, entry.dtype);
  char* bytes = mapped->data() + header.data_start + entry.begin;
  if (entry.dtype == at::kBool) {
    check(std::all_of(bytes, bytes + (entry.end - entry.begin),
                      [](char byte) { return byte == 0 || byte == 1; }),
          file, ": tensor '", entry.name, "' is BOOL but holds bytes other than 0 and 1");
  }
  if (reinterpret_cast<uintptr_t>(bytes) % at::elementSize(entry.dtype) != 0) {
    at::Tensor copy = at::empty(entry.shape, entry.dtype);
    std::memcpy(copy.data_ptr(), bytes, entry.end - entry.begin);
    return copy;
  }
  return at::from_blob(
      bytes, entry.shape, [mapped](void*) {}, at::dtype(entry.dtype));
}

std::map<std::string, at::Tensor> read_file_of_tensors(const fs::path& path) {
  const auto mapped = std::make_shared<MappedFile>(path);
  const SafetensorsHeader header = parse_header(*mapped, path.string());
  std::map<std::string, at::Tensor> tensors;
  for (const SafetensorsEntry& entry : header.tensors) {
    tensors.emplace(entry.name, view_of(mapped, header, entry, path.string()));
  }
  return tensors;
}

// --- writing --------------------------------------------------------------------------------

const char* dtype_name(at::ScalarType dtype) {
  for (const auto& [name, known] : kDtypes) {
    if (dtype == known) return name;
  }
  return nullptr;
}

void check_writable(const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                    const std::string& file) {
  std::set<std::string> names{std::string(kMetadata)};
  for (const auto& [name, tensor] : tensors) {
    const std::string where = concat("cannot write ", file, ": tensor '", name, "'");
    check(names.insert(name).second, where, " has a name that is taken");
    check(tensor.defined(), where, " is undefined");
    check(tensor.layout() == at::kStrided && dtype_name(tensor.scalar_type()), where, " (",
          tensor.layout(), ", ", tensor.scalar_type(), ") is of a kind that is not supported");
  }
}

// The length, and the header padded so that the data starts at a multiple of 8 bytes.
std::string make_header(const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                        const std::map<std::string, std::string>& metadata) {
  Json json = Json::object();
  if (!metadata.empty()) json[std::string(kMetadata)] = metadata;
  size_t end = 0;
  for (const auto& [name, tensor] : tensors) {
    const size_t begin = end;
    end += tensor.nbytes();
    json[name] = {{"dtype", dtype_name(tensor.scalar_type())},
                  {"shape", tensor.sizes().vec()},
                  {"data_offsets", {begin, end}}};
  }
  std::string header = dump(json);
  header.resize((header.size() + 7) / 8 * 8, ' ');
  const uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header;
}

}  // namespace

SafetensorsHeader read_safetensors_header(const fs::path& path) {
  return parse_header(MappedFile(path), path.string());
}

std::map<std::string, at::Tensor> read_safetensors(const fs::path& path) {
  const bool sharded = path.string().ends_with(".index.json");
  return sharded ? read_shards(path, read_file_of_tensors) : read_file_of_tensors(path);
}

void write_safetensors(const fs::path& path,
                       const std::vector<std::pair<std::string, at::Tensor>>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  check_writable(tensors, path.string());
  auto sorted = tensors;
  std::stable_sort(sorted.begin(), sorted.end(), [](const auto& a, const auto& b) {
    return a.second.element_size() > b.second.element_size();
  });
  const std::string header = make_header(sorted, metadata);
  AtomicFile file(path);
  file.write(header.data(), header.size());
  for (const auto& [name, tensor] : sorted) {
    const at::Tensor data = tensor.detach().cpu().contiguous();
    file.write(data.const_data_ptr(), data.nbytes());
  }
  file.commit();
}

}  // namespace quench
