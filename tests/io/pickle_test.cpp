#include "io/pickle.h"

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>

#include "io/atomic_file.h"
#include "tests/io/temporary_folder.h"
#include "tests/io/torch_file.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

const fs::path kGolden = fs::path(QUENCH_TESTS_DIR) / "golden/pickle";  // written by its make.py

// The program of {"x": torch._utils._rebuild_tensor_v2(...)}.
std::string program_of(const TensorArguments& a) {
  return "\x80\x02}" + text("x") + rebuilt(a) + "s.";
}

const std::vector<float> kFour{1, 2, 3, 4};
const std::string kFourBytes(reinterpret_cast<const char*>(kFour.data()), 16);

class ReadPickle : public TemporaryFolder {
 protected:
  fs::path write(const std::string& content) const {
    fs::remove(folder_ / "file.bin");  // some file systems flush a file that is overwritten
    std::ofstream(folder_ / "file.bin", std::ios::binary) << content;
    return folder_ / "file.bin";
  }
  std::string error(const std::string& content) const {
    return error_of([&] { read_pickle(write(content)); });
  }
  std::string error_of_program(const std::string& program) const {
    return error(zip_of({{"a/data.pkl", program}, {"a/data/0", kFourBytes}}));
  }
};

void expect_contains(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << message;
}

TEST_F(ReadPickle, ReadsEveryTypeThatTorchWrites) {
  const auto state = read_pickle(kGolden / "state.bin");
  EXPECT_EQ(state.size(), 17u);
  const std::map<std::string, at::ScalarType> dtypes{
      {"double", at::kDouble}, {"half", at::kHalf}, {"bfloat16", at::kBFloat16},
      {"long", at::kLong},     {"int", at::kInt},   {"short", at::kShort},
      {"char", at::kChar},     {"byte", at::kByte}};
  for (const auto& [name, dtype] : dtypes)
    EXPECT_TRUE(at::equal(state.at(name), at::arange(3).to(dtype))) << name;
  EXPECT_TRUE(at::equal(state.at("float"), at::arange(6).to(at::kFloat).view({2, 3})));
  EXPECT_TRUE(at::equal(state.at("bool").to(at::kInt), (1 - at::arange(3) % 2).to(at::kInt)));
  EXPECT_EQ(state.at("bool").scalar_type(), at::kBool);
  EXPECT_TRUE(at::equal(state.at("scalar"), at::scalar_tensor(7)));
  EXPECT_EQ(state.at("empty").sizes(), at::IntArrayRef({0, 5}));
  EXPECT_TRUE(at::equal(state.at("parameter"), at::arange(2).to(at::kFloat)));
}

TEST_F(ReadPickle, KeepsStridesOffsetsAndSharedStorages) {
  const auto state = read_pickle(kGolden / "state.bin");
  const at::Tensor base = at::arange(24).to(at::kFloat).view({4, 6});
  EXPECT_TRUE(at::equal(state.at("base"), base));
  EXPECT_TRUE(at::equal(state.at("transposed"), base.t()));
  EXPECT_TRUE(at::equal(state.at("window"), base.slice(0, 1, 3).slice(1, 2, 5)));
  EXPECT_TRUE(at::equal(state.at("expanded"), at::full({3}, 5.f)));
  EXPECT_EQ(state.at("transposed").data_ptr(), state.at("base").data_ptr());
}

TEST_F(ReadPickle, TensorsOutliveTheFileAndLeaveItAlone) {
  const std::string content = read_file(kGolden / "state.bin");
  auto state = read_pickle(write(content));
  state.at("float").fill_(9);
  EXPECT_EQ(read_file(folder_ / "file.bin"), content);
  fs::remove(folder_ / "file.bin");
  const at::Tensor kept = state.at("base");
  state.clear();
  EXPECT_EQ(kept.sum().item<float>(), 276);
}

TEST_F(ReadPickle, ReadsUnalignedStorages) {
  for (const std::string pad : {"", "a", "ab", "abc"}) {
    const auto state = read_pickle(
        write(zip_of({{"a/pad", pad}, {"a/data/0", kFourBytes}, {"a/data.pkl", program_of({})}})));
    EXPECT_TRUE(at::equal(state.at("x"), at::arange(1, 5).to(at::kFloat)));
  }
}

TEST_F(ReadPickle, ReadsZip64) {
  const auto state = read_pickle(
      write(zip_of({{"a/data.pkl", program_of({})}, {"a/data/0", kFourBytes}}, /*zip64=*/true)));
  EXPECT_TRUE(at::equal(state.at("x"), at::arange(1, 5).to(at::kFloat)));
}

TEST_F(ReadPickle, ReadsShardsThroughTheirIndex) {
  for (const char* name : {"one", "two"})
    std::ofstream(folder_ / name, std::ios::binary)
        << zip_of({{"a/data.pkl", program_of({})}, {"a/data/0", kFourBytes}});
  const auto index = [&](const std::string& weight_map) {
    std::ofstream(folder_ / "i.index.json") << R"({"weight_map": )" << weight_map << "}";
    return folder_ / "i.index.json";
  };
  EXPECT_EQ(read_pickle(index(R"({"x": "two"})")).at("x").numel(), 4);
  expect_contains(error_of([&] { read_pickle(index(R"({"y": "one"})")); }), "'y' is not in one");
  expect_contains(error_of([&] { read_pickle(index(R"({"x": "../one"})")); }), "beside the index");
  expect_contains(error_of([&] { read_pickle(index("3")); }), "not an index of shards");
}

// As trainers write it, beside an epoch and a learning rate.
TEST_F(ReadPickle, FindsTheTensorsThatATrainerSaved) {
  for (const char* name : {"state_dict", "model_state_dict", "model", "module"}) {
    const std::string program = "\x80\x02}(" + text("epoch") + integer(3) + text("rate") +
                                std::string("G\x3f\xb9\x99\x99\x99\x99\x99\x9a", 9) + text(name) +
                                "}" + text("x") + rebuilt({}) + "su.";
    const auto state =
        read_pickle(write(zip_of({{"a/data.pkl", program}, {"a/data/0", kFourBytes}})));
    ASSERT_EQ(state.size(), 1u);
    EXPECT_TRUE(at::equal(state.at("x"), at::tensor(kFour)));
  }
}

TEST_F(ReadPickle, SaysWhatAFileIsInstead) {
  expect_contains(error_of([] { read_pickle(kGolden / "old.bin"); }), "the format of torch < 1.6");
  expect_contains(error_of([] { read_pickle(kGolden / "training.bin"); }), "'epoch' is no tensor");
  expect_contains(error_of([] { read_pickle(kGolden / "module.bin"); }),
                  "torch.nn.modules.linear.Linear");
  expect_contains(error("version https://git-lfs.github.com/spec/v1"), "not a file of torch.save");
  expect_contains(error(""), "not a file of torch.save");
  expect_contains(error(zip_of({{"a/x", ""}})), "no data.pkl");
  expect_contains(error(zip_of({{"a/data.pkl", program_of({})}, {"a/byteorder", "big"}})),
                  "little-endian");
}

TEST_F(ReadPickle, ExecutesNothing) {
  expect_contains(error_of_program("\x80\x02"
                                   "cos\nsystem\n" +
                                   text("false") + "\x85R."),
                  "os.system");
  expect_contains(error_of_program("\x80\x02"
                                   "c__builtin__\neval\n" +
                                   text("1") + "\x85R."),
                  "__builtin__.eval");
}

TEST_F(ReadPickle, RefusesTensorsOutsideTheirStorage) {
  const auto pair = [](int32_t a, int32_t b) { return integer(a) + integer(b) + "\x86"; };
  const int32_t huge = 0x7fffffff;
  EXPECT_EQ(error_of_program(program_of({})), "no error");
  for (const TensorArguments& bad :
       std::vector<TensorArguments>{{.offset = 1},
                                    {.offset = -1},
                                    {.sizes = integer(5) + "\x85"},
                                    {.sizes = integer(-1) + "\x85"},
                                    {.strides = integer(2) + "\x85"},
                                    {.strides = integer(-1) + "\x85"},
                                    {.sizes = pair(2, huge), .strides = pair(1, huge)},
                                    {.offset = 5, .sizes = integer(0) + "\x85"}})
    expect_contains(error_of_program(program_of(bad)), "outside its storage");
  expect_contains(error_of_program(program_of({.sizes = pair(2, 2)})), "2 sizes and 1 strides");
  std::string many = "(", zeros = "(";
  for (int i = 0; i < 3; ++i) many += integer(huge), zeros += integer(0);
  expect_contains(error_of_program(program_of({.sizes = many + "t", .strides = zeros + "t"})),
                  "outside its storage");
}

TEST_F(ReadPickle, RefusesStoragesOfAnotherKind) {
  expect_contains(error_of_program(program_of({.key = "1"})), "storage '1' is missing");
  expect_contains(error_of_program(program_of({.elements = 5})), "expected 5 elements");
  expect_contains(error_of_program(program_of({.type = "DoubleStorage"})), "expected 4 elements");
  expect_contains(error_of_program(program_of({.type = "ComplexFloatStorage"})),
                  "torch.ComplexFloatStorage");
  expect_contains(error(zip_of({{"a/data.pkl", program_of({})}, {"a/data/0", "odd"}})),
                  "no multiple of 4");
}

TEST_F(ReadPickle, RefusesZipFilesThatAreCompressedOrOverlap) {
  std::string file = zip_of({{"a/data.pkl", program_of({})}, {"a/data/0", kFourBytes}});
  const size_t last = file.rfind("PK\x01\x02");
  file[last + 10] = 8;  // deflate
  expect_contains(error(file), "'a/data/0' is compressed");
  file[last + 10] = 0;
  std::fill_n(file.begin() + static_cast<ptrdiff_t>(last) + 42, 4, '\0');  // the first one's header
  expect_contains(error(file), "overlap");
}

TEST_F(ReadPickle, SurvivesProgramsThatAbuseTheStack) {
  const std::string start = "\x80\x02";
  for (const std::string& program :
       {start + ".", start + "t.", start + "}(.", start + "N(\x85.", start + "h\x01.", start + "R.",
        start + "}(Nu.", start + "NN\x86R.", start + "NNb.", start + ")Q.",
        std::string("\x80\x04}."),
        start + "\x8a\x09"
                "123456789.",
        start + "]."})
    EXPECT_NE(error_of_program(program), "no error") << program;
  // A dictionary that holds itself, and tuples nested a million deep.
  expect_contains(error_of_program(start + "}q\x01" + text("x") + "h\x01s."), "'x' is no tensor");
  expect_contains(error_of_program(start + ")" + std::string(1'000'000, '\x85') + "."),
                  "expected a dictionary");
}

TEST_F(ReadPickle, SurvivesTruncationAndFlippedBits) {
  const std::string content = read_file(kGolden / "state.bin");
  for (size_t size = 0; size < content.size(); ++size)
    EXPECT_NE(error(content.substr(0, size)), "no error") << size;
  double sum = 0;  // touches every byte of what is still read, but for what strides of 0 repeat
  for (size_t i = 0; i < content.size() * 8; i += 7) {
    std::string flipped = content;
    flipped[i / 8] = static_cast<char>(flipped[i / 8] ^ (1 << i % 8));
    try {
      for (const auto& [name, tensor] : read_pickle(write(flipped)))
        if (tensor.numel() < 1000) sum += tensor.to(at::kDouble).sum().item<double>();
    } catch (const Error&) {
    }
  }
  EXPECT_NE(sum, 0);
}

}  // namespace
}  // namespace quench
