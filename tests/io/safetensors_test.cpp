#include "io/safetensors.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <fstream>

#include "base/error.h"
#include "io/atomic_file.h"
#include "temporary_folder.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

// The bytes of a file with this header and this much data.
std::string file_bytes(const std::string& header, size_t data_size = 0) {
  const uint64_t size = header.size();
  return std::string(reinterpret_cast<const char*>(&size), 8) + header +
         std::string(data_size, '\0');
}

// The description of an F32 tensor.
std::string f32(const std::string& shape, const std::string& offsets) {
  return R"({"dtype":"F32","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}";
}

class Safetensors : public TemporaryFolder {
 protected:
  // What the reader says about a file of these bytes, which must begin with the file's name.
  std::string complaint(const std::string& bytes) {
    write_file_atomically(file_, bytes);
    const std::string message = error_of([&] { read_safetensors(file_); });
    const std::string prefix = file_.string() + ": ";
    EXPECT_EQ(message.find(prefix), 0u) << message;
    EXPECT_EQ(error_of([&] { read_safetensors_header(file_); }), message);
    return message.substr(std::min(prefix.size(), message.size()));
  }

  const fs::path file_ = folder_ / "model.safetensors";
};

// --- what is written comes back ---------------------------------------------------------------

TEST_F(Safetensors, EveryDtypeComesBack) {
  const at::Tensor values = at::tensor({-3.0, 0.0, 1.0, 2.0, 100.0, 7.0}).view({2, 3});
  std::vector<std::pair<std::string, at::Tensor>> written;
  for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kHalf, at::kBFloat16, at::kLong,
                                     at::kInt, at::kShort, at::kChar, at::kBool}) {
    written.emplace_back(at::toString(dtype), values.to(dtype));
  }
  written.emplace_back("Byte", values.abs().to(at::kByte));
  write_safetensors(file_, written);
  const auto read = read_safetensors(file_);
  ASSERT_EQ(read.size(), written.size());
  for (const auto& [name, tensor] : written) {
    EXPECT_EQ(read.at(name).scalar_type(), tensor.scalar_type()) << name;
    EXPECT_TRUE(at::equal(read.at(name), tensor)) << name;
  }
}

TEST_F(Safetensors, ShapesAndStridesComeBackRowMajor) {
  const at::Tensor matrix = at::arange(12, at::kFloat).view({3, 4});
  write_safetensors(file_, {{"transposed", matrix.t()},
                            {"sliced", matrix.slice(1, 1, 3)},
                            {"expanded", matrix.select(0, 1).expand({2, 4})},
                            {"scalar", at::scalar_tensor(2.5)},
                            {"empty", at::empty({2, 0, 3})},
                            {"parameter", at::ones({2}).requires_grad_()}});
  const auto read = read_safetensors(file_);
  EXPECT_TRUE(at::equal(read.at("transposed"), matrix.t()));
  EXPECT_TRUE(read.at("transposed").is_contiguous());
  EXPECT_TRUE(at::equal(read.at("sliced"), matrix.slice(1, 1, 3)));
  EXPECT_TRUE(at::equal(read.at("expanded"), matrix.select(0, 1).expand({2, 4})));
  EXPECT_EQ(read.at("scalar").dim(), 0);
  EXPECT_EQ(read.at("scalar").item<float>(), 2.5f);
  EXPECT_EQ(read.at("empty").sizes(), (at::IntArrayRef{2, 0, 3}));
  EXPECT_FALSE(read.at("parameter").requires_grad());
}

TEST_F(Safetensors, MetadataAndAwkwardNamesComeBack) {
  const std::map<std::string, std::string> metadata{{"format", "pt"}, {"note", "γ \"quoted\"\n"}};
  write_safetensors(file_, {{"a \"b\" γ", at::ones({1})}, {"", at::ones({1})}}, metadata);
  EXPECT_EQ(read_safetensors_header(file_).metadata, metadata);
  EXPECT_EQ(read_safetensors(file_).count("a \"b\" γ"), 1u);
  EXPECT_EQ(read_safetensors(file_).count(""), 1u);
  write_file_atomically(file_, file_bytes(R"({"__metadata__":null})"));
  EXPECT_TRUE(read_safetensors_header(file_).metadata.empty()) << "some writers say none so";
}

TEST_F(Safetensors, HeaderTellsDtypeShapeAndPlace) {
  write_safetensors(file_, {{"bytes", at::ones({3}, at::kByte)}, {"floats", at::ones({2, 1})}});
  const SafetensorsHeader header = read_safetensors_header(file_);
  EXPECT_EQ(header.data_start % 8, 0u);
  ASSERT_EQ(header.tensors.size(), 2u);
  EXPECT_EQ(header.tensors[0].name, "floats");  // wider dtypes first, so that all stay aligned
  EXPECT_EQ(header.tensors[0].shape, (std::vector<int64_t>{2, 1}));
  EXPECT_EQ(header.tensors[0].begin, 0u);
  EXPECT_EQ(header.tensors[0].end, 8u);
  EXPECT_EQ(header.tensors[1].name, "bytes");
  EXPECT_EQ(header.tensors[1].dtype, at::kByte);
  EXPECT_EQ(header.tensors[1].end, 11u);
}

TEST_F(Safetensors, FileWithoutTensorsIsFine) {
  write_safetensors(file_, {});
  EXPECT_TRUE(read_safetensors(file_).empty());
}

TEST_F(Safetensors, TensorsOutliveTheFileAndAreNotShared) {
  write_safetensors(file_, {{"x", at::ones({4})}, {"y", at::ones({4})}});
  at::Tensor x = read_safetensors(file_).at("x");
  x.add_(1);
  EXPECT_EQ(read_safetensors(file_).at("x").sum().item<float>(), 4);
  write_safetensors(file_, {{"x", at::zeros({4})}});
  fs::remove(file_);
  EXPECT_EQ(x.sum().item<float>(), 8);
}

TEST_F(Safetensors, MisalignedTensorsAreRead) {
  const float value = 1.5;
  std::string bytes = file_bytes(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":)" +
                                 f32("[1]", "[1,5]") + "}");
  bytes += '\7' + std::string(reinterpret_cast<const char*>(&value), 4);
  write_file_atomically(file_, bytes);
  const auto read = read_safetensors(file_);
  EXPECT_EQ(read.at("a").item<int>(), 7);
  EXPECT_EQ(read.at("b").item<float>(), 1.5f);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(read.at("b").const_data_ptr()) % alignof(float), 0u);
}

// --- malformed files ----------------------------------------------------------------------------

TEST_F(Safetensors, RefusesATruncatedFile) {
  EXPECT_EQ(complaint(""),
            "too short (0 bytes) for a safetensors file; perhaps an incomplete download?");
  EXPECT_EQ(complaint("1234567"),
            "too short (7 bytes) for a safetensors file; perhaps an incomplete download?");
  EXPECT_EQ(complaint(file_bytes(R"({"a":)" + f32("[2]", "[0,8]") + "}", 7)),
            "tensor 'a': data_offsets [0,8] go beyond the 7 bytes of data in the file; perhaps an "
            "incomplete download?");
}

TEST_F(Safetensors, RefusesAHeaderLengthBeyondTheFile) {
  EXPECT_EQ(complaint(file_bytes("{}").substr(0, 9)),
            "the header should take 2 bytes, but only 1 follow; perhaps an incomplete download?");
  EXPECT_EQ(complaint(std::string(8, '\xFF') + "{}"),
            "a header of 18446744073709551615 bytes is beyond the format's limit of 100000000; is "
            "this a safetensors file?");
}

TEST_F(Safetensors, RefusesAHeaderThatIsNotAJsonObject) {
  EXPECT_EQ(complaint(file_bytes("")), "the header is not valid JSON (at its byte 1)");
  EXPECT_EQ(complaint(file_bytes("{\"a\":")), "the header is not valid JSON (at its byte 6)");
  EXPECT_EQ(complaint(file_bytes("{\"\xFF\":1}")), "the header is not valid JSON (at its byte 3)");
  EXPECT_EQ(complaint(file_bytes("{\"a\":1e999}")),
            "the header is not valid JSON (a number is out of range)");
  EXPECT_EQ(complaint(file_bytes("[1]")), "the header is not a JSON object");
  EXPECT_EQ(complaint(file_bytes(std::string(1'000'000, '['))), "the header is nested too deeply");
}

TEST_F(Safetensors, RefusesDuplicateNames) {
  EXPECT_EQ(complaint(file_bytes(
                R"({"a":)" + f32("[1]", "[0,4]") + R"(,"a":)" + f32("[1]", "[4,8]") + "}", 8)),
            "the header names 'a' twice");
  EXPECT_EQ(complaint(file_bytes(R"({"a":{"dtype":"U8","dtype":"I8"}})")),
            "the header names 'dtype' twice");
}

TEST_F(Safetensors, RefusesWrongTypes) {
  const auto complaint_about = [&](const std::string& description) {
    return complaint(file_bytes("{\"a\":" + description + "}", 4));
  };
  EXPECT_EQ(complaint_about("3"), "tensor 'a' is described by 3, not by an object");
  EXPECT_EQ(complaint_about(R"({"dtype":"F32","shape":[1]})"),
            "tensor 'a': data_offsets is missing");
  EXPECT_EQ(complaint_about(R"({"dtype":1,"shape":[1],"data_offsets":[0,4]})"),
            "tensor 'a': dtype is 1, not a string");
  EXPECT_EQ(complaint_about(f32("4", "[0,4]")), "tensor 'a': shape is 4, not a list");
  for (const char* size : {"-1", "1.0", "\"1\"", "[1]", "9223372036854775808"}) {
    EXPECT_EQ(complaint_about(f32(concat("[", size, "]"), "[0,4]")),
              concat("tensor 'a': shape [", size, "] holds ", size, ", which is not a size"));
  }
  for (const char* offsets : {"4", "[0]", "[0,4,8]", "[-4,0]", "[0,4.0]"}) {
    EXPECT_EQ(complaint_about(f32("[1]", offsets)),
              concat("tensor 'a': data_offsets is ", offsets, ", not [begin, end]"));
  }
  EXPECT_EQ(complaint(file_bytes(R"({"__metadata__":[]})")), "__metadata__ is not an object");
  EXPECT_EQ(complaint(file_bytes(R"({"__metadata__":{"step":1}})")),
            "__metadata__ 'step' is 1, not a string");
}

TEST_F(Safetensors, RefusesUnknownDtypes) {
  EXPECT_EQ(complaint(file_bytes(R"({"a":{"dtype":"F8","shape":[1],"data_offsets":[0,1]}})", 1)),
            "tensor 'a': dtype 'F8' is not supported; supported are F64, F32, F16, BF16, I64, I32, "
            "I16, I8, U8, BOOL");
}

TEST_F(Safetensors, RefusesShapesThatOverflow) {
  const std::string half = "4611686018427387904";  // 2^62
  for (const std::string& shape :
       {"[" + half + "]", "[" + half + "," + half + "]", "[0," + half + "," + half + "]"}) {
    EXPECT_EQ(complaint(file_bytes(R"({"a":)" + f32(shape, "[0,0]") + "}")),
              "tensor 'a': shape " + shape + " is too large");
  }
}

TEST_F(Safetensors, RefusesOffsetsThatDoNotFitTheShape) {
  EXPECT_EQ(complaint(file_bytes(R"({"a":)" + f32("[1]", "[4,0]") + "}", 4)),
            "tensor 'a': data_offsets [4,0] end before they begin");
  EXPECT_EQ(complaint(file_bytes(R"({"a":)" + f32("[1,2]", "[0,4]") + "}", 4)),
            "tensor 'a': data_offsets [0,4] hold 4 bytes, but \"F32\" of shape [1,2] takes 8");
  EXPECT_EQ(complaint(file_bytes(R"({"a":)" + f32("[0]", "[0,4]") + "}", 4)),
            "tensor 'a': data_offsets [0,4] hold 4 bytes, but \"F32\" of shape [0] takes 0");
}

TEST_F(Safetensors, RefusesOverlapsHolesAndTrailingBytes) {
  const auto pair = [](const std::string& first, const std::string& second) {
    return R"({"a":)" + f32("[2]", first) + R"(,"b":)" + f32("[1]", second) + "}";
  };
  EXPECT_EQ(complaint(file_bytes(pair("[0,8]", "[4,8]"), 8)),
            "tensors 'a' and 'b' overlap at byte 4 of the data");
  EXPECT_EQ(complaint(file_bytes(pair("[0,8]", "[12,16]"), 16)),
            "no tensor owns bytes 8 to 12 of the data, before tensor 'b'");
  EXPECT_EQ(complaint(file_bytes(pair("[8,16]", "[4,8]"), 16)),
            "no tensor owns bytes 0 to 4 of the data, before tensor 'b'");
  EXPECT_EQ(complaint(file_bytes(pair("[4,12]", "[0,4]"), 15)), "3 bytes follow the last tensor");
  EXPECT_EQ(complaint(file_bytes("{}", 1)), "1 bytes follow the last tensor");
}

TEST_F(Safetensors, RefusesBoolsThatAreNeitherFalseNorTrue) {
  write_file_atomically(
      file_, file_bytes(R"({"a":{"dtype":"BOOL","shape":[1],"data_offsets":[0,1]}})") + '\2');
  EXPECT_EQ(error_of([&] { read_safetensors(file_); }),
            file_.string() + ": tensor 'a' is BOOL but holds bytes other than 0 and 1");
}

TEST_F(Safetensors, NamesAFileThatIsNotThere) {
  EXPECT_EQ(error_of([] { read_safetensors("/no/such.safetensors"); }),
            "cannot read /no/such.safetensors: No such file or directory");
}

// Whatever single bit is wrong, the file is refused, or it says something else that is valid.
TEST_F(Safetensors, SurvivesEveryFlippedBit) {
  write_safetensors(file_,
                    {{"w", at::ones({2, 3})},
                     {"ids", at::ones({2}, at::kLong)},
                     {"mask", at::ones({3}, at::kBool)}},
                    {{"format", "pt"}});
  const std::string bytes = read_file(file_);
  std::fstream file(file_, std::ios::binary | std::ios::in | std::ios::out);
  const auto put = [&](size_t position, int byte) {
    file.seekp(static_cast<std::streamoff>(position)).put(static_cast<char>(byte)).flush();
  };
  int refused = 0;
  for (size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    put(bit / 8, bytes[bit / 8] ^ (1 << bit % 8));
    try {
      for (const auto& [name, tensor] : read_safetensors(file_)) {
        EXPECT_TRUE(tensor.to(at::kDouble).sum().defined()) << name;  // touches every byte
      }
    } catch (const Error& error) {
      ++refused;
      EXPECT_EQ(std::string(error.what()).find(file_.string()), 0u) << error.what();
    }
    put(bit / 8, bytes[bit / 8]);
  }
  EXPECT_GT(refused, 1000);
  EXPECT_EQ(read_file(file_), bytes);
}

// --- sharded sets -------------------------------------------------------------------------------

class Sharded : public Safetensors {
 protected:
  void SetUp() override {
    write_safetensors(folder_ / "model-1.safetensors",
                      {{"a", at::ones({1})}, {"b", at::ones({2})}});
    write_safetensors(folder_ / "model-2.safetensors", {{"c", at::ones({3})}});
  }

  std::string complaint_about_index(const std::string& content) {
    write_file_atomically(index_, content);
    const std::string message = error_of([&] { read_safetensors(index_); });
    return message.substr(0, message.find(": ")) == index_ ? message.substr(message.find(": ") + 2)
                                                           : message;
  }

  const fs::path index_ = folder_ / "model.safetensors.index.json";
};

TEST_F(Sharded, IsReadThroughItsIndex) {
  write_file_atomically(index_, R"({"metadata": {"total_size": 24}, "weight_map":
      {"a": "model-1.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}})");
  const auto tensors = read_safetensors(index_);
  ASSERT_EQ(tensors.size(), 3u);
  EXPECT_EQ(tensors.at("b").numel(), 2);
  EXPECT_EQ(tensors.at("c").numel(), 3);
}

TEST_F(Sharded, RefusesAMalformedIndex) {
  EXPECT_EQ(complaint_about_index("{"), "the index is not valid JSON (at its byte 2)");
  const std::string no_map = "not an index of shards (a JSON object with an object \"weight_map\")";
  EXPECT_EQ(complaint_about_index("[]"), no_map);
  EXPECT_EQ(complaint_about_index("{}"), no_map);
  EXPECT_EQ(complaint_about_index(R"({"weight_map": ["a"]})"), no_map);
  for (const char* shard : {"1", "\"\"", "\"../model-1.safetensors\"", "\"/etc/passwd\""}) {
    EXPECT_EQ(complaint_about_index(concat("{\"weight_map\": {\"a\": ", shard, "}}")),
              concat("tensor 'a' should lie in a file beside the index, not in ", shard));
  }
  EXPECT_EQ(complaint_about_index(R"({"weight_map": {"c": "model-1.safetensors"}})"),
            "tensor 'c' is not in model-1.safetensors");
  EXPECT_EQ(
      complaint_about_index(R"({"weight_map": {"c": "model-3.safetensors"}})"),
      "cannot read " + (folder_ / "model-3.safetensors").string() + ": No such file or directory");
}

// --- writing ------------------------------------------------------------------------------------

TEST_F(Safetensors, DoesNotWriteWhatItCouldNotRead) {
  const auto refusal = [&](const std::vector<std::pair<std::string, at::Tensor>>& tensors) {
    const std::string message = error_of([&] { write_safetensors(file_, tensors); });
    EXPECT_FALSE(fs::exists(file_));
    const std::string prefix = "cannot write " + file_.string() + ": tensor ";
    EXPECT_EQ(message.find(prefix), 0u) << message;
    return message.substr(std::min(prefix.size(), message.size()));
  };
  const at::Tensor x = at::ones({1});
  EXPECT_EQ(refusal({{"a", x}, {"a", x}}), "'a' has a name that is taken");
  EXPECT_EQ(refusal({{"__metadata__", x}}), "'__metadata__' has a name that is taken");
  EXPECT_EQ(refusal({{"a", at::Tensor()}}), "'a' is undefined");
  EXPECT_EQ(refusal({{"a", at::ones({1}, at::kComplexFloat)}}),
            "'a' (Strided, ComplexFloat) is of a kind that is not supported");
  EXPECT_EQ(refusal({{"a", at::eye(2).to_sparse()}}),
            "'a' (Sparse, Float) is of a kind that is not supported");
}

TEST_F(Safetensors, FullDiskKeepsTheOldFile) {
  const SmallDisk disk(folder_);
  if (!disk.mounted()) GTEST_SKIP() << "a small file system can be mounted only by root";
  write_safetensors(file_, {{"x", at::ones({4})}});
  EXPECT_EQ(error_of([&] {
              write_safetensors(file_, {{"x", at::zeros({100'000})}});
            }),
            "cannot write " + file_.string() + ": No space left on device");
  EXPECT_EQ(read_safetensors(file_).at("x").sum().item<float>(), 4);
}

}  // namespace
}  // namespace quench
