#include "data/image/source.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <set>

#include "support.h"

namespace quench::testing_images {
namespace {

TEST(ImageFolder, OrdersClassesAndFilesByName) {
  TempFolder folder;
  folder.copy(golden_path("grey.jpg"), "cat/b.JPG");
  folder.copy(golden_path("rgb.jpg"), "cat/a.jpeg");
  folder.copy(golden_path("input.png"), "ant/deeper/z.png");
  folder.write("cat/notes.txt", std::vector<uint8_t>{1});
  folder.write("stray.txt", std::vector<uint8_t>{1});
  const ImageSourcePtr source = image_folder(folder.path());
  EXPECT_EQ(source->class_names(), (std::vector<std::string>{"ant", "cat"}));
  ASSERT_EQ(source->size(), 3);
  EXPECT_EQ(source->load(0), golden("input.png"));
  EXPECT_EQ(source->load(1), golden("rgb.jpg"));
  EXPECT_EQ(source->load(2), golden("grey.jpg"));
  EXPECT_EQ(source->label(0), 0);
  EXPECT_EQ(source->label(1), 1);
  EXPECT_EQ(source->label(2), 1);
}

TEST(ImageFolder, SaysWhatItLeavesOut) {
  namespace fs = std::filesystem;
  TempFolder folder;
  const auto at = [&](const char* name) { return folder.path() + "/" + name; };
  folder.copy(golden_path("rgb.jpg"), "cat/a.jpg");
  folder.copy(golden_path("rgb.jpg"), "cat/deeper/a.PNG");
  folder.copy(golden_path("rgb.jpg"), "stray.jpg");
  folder.copy(golden_path("rgb.jpg"), ".ipynb_checkpoints/a.jpg");
  folder.copy(golden_path("rgb.jpg"), "cat/.thumbnails/a.jpg");
  folder.copy(golden_path("rgb.jpg"), "cat/.hidden.jpg");
  for (const char* name : {"cat/1.bmp", "cat/2.gif", "cat/deeper/3.txt", "cat/4.tif", "readme.md"})
    folder.write(name, std::vector<uint8_t>{1});
  fs::create_symlink("nowhere.jpg", at("cat/link.jpg"));
  fs::create_symlink("..", at("cat/deeper/up"));
  folder.copy(golden_path("rgb.jpg"), ".elsewhere/.x/a.webp");
  fs::create_directory_symlink(at(".elsewhere/.x"), at("dog"));
  ImageSourcePtr source;
  const std::string said = logged([&] { source = image_folder(folder.path()); }, folder);
  EXPECT_EQ(source->class_names(), (std::vector<std::string>{"cat", "dog"}));
  EXPECT_EQ(source->size(), 3) << "a class may be a link to a folder";
  EXPECT_TRUE(mentions(
      said, {"hidden folders left out (3): ", ".ipynb_checkpoints", ".thumbnails",
             "files that do not end in .jpg, .jpeg, .png or .webp left out (6): ", ", ...",
             "pictures outside of the class folders left out (1): ", "/stray.jpg",
             "links that lead nowhere left out (1): ", "/cat/link.jpg",
             "links to a folder around them, or one that its class holds already left out (1): ",
             "/cat/deeper/up"}));
}

// Two links to the next folder in each: as many ways as no time suffices for.
TEST(ImageFolder, AFolderIsReadOnceHoweverManyWaysLeadToIt) {
  TempFolder folder;
  for (int i = 0; i < 30; ++i) {
    folder.copy(golden_path("rgb.jpg"), concat("all/", i, "/a.jpg").c_str());
    for (const char* link : {"x", "y"})
      std::filesystem::create_directory_symlink(folder.path() + concat("/all/", i + 1),
                                                folder.path() + concat("/all/", i, "/", link));
  }
  folder.copy(golden_path("rgb.jpg"), "all/30/a.jpg");
  std::filesystem::create_directory(folder.path() + "/classes");
  std::filesystem::create_directory_symlink(folder.path() + "/all/0",
                                            folder.path() + "/classes/cat");
  EXPECT_EQ(image_folder(folder.path() + "/classes")->size(), 31);
}

TEST(ImageFolder, EmptyClassOrFolderIsAnError) {
  TempFolder folder;
  EXPECT_TRUE(mentions(error_of([&] { image_folder(folder.path()); }), {"no class folders"}));
  folder.copy(golden_path("rgb.jpg"), "cat/a.jpg");
  std::filesystem::create_directory(folder.path() + "/dog");
  EXPECT_TRUE(mentions(error_of([&] { image_folder(folder.path()); }), {"/dog", "no images"}));
  EXPECT_TRUE(mentions(error_of([] { image_folder("no/such/folder"); }), {"not a folder"}));
}

TEST(ImageFolder, NamesAClassWhoseNameIsNotText) {
  TempFolder folder;
  folder.copy(golden_path("rgb.jpg"), "cat\xFF/a.jpg");
  EXPECT_TRUE(mentions(error_of([&] { image_folder(folder.path()); }), {"/cat", "not UTF-8"}));
}

TEST(ImageFolder, CanLeaveOutEmptyClasses) {
  TempFolder folder;
  folder.copy(golden_path("rgb.jpg"), "cat/a.jpg");
  folder.copy(golden_path("grey.jpg"), "eel/deeper/a.jpg");
  folder.write("dog/notes.txt", std::vector<uint8_t>{1});
  std::filesystem::create_directory(folder.path() + "/fox");
  ImageSourcePtr source;
  const std::string said =
      logged([&] { source = image_folder(folder.path(), OnError::kSkip); }, folder);
  EXPECT_TRUE(mentions(said, {"classes without images left out (2): ", "/dog", "/fox"}));
  EXPECT_EQ(source->class_names(), (std::vector<std::string>{"cat", "eel"}));
  EXPECT_EQ(source->size(), 2);
  EXPECT_EQ(source->label(1), 1);
  for (const char* name : {"/cat", "/eel"}) std::filesystem::remove_all(folder.path() + name);
  EXPECT_TRUE(mentions(error_of([&] { image_folder(folder.path(), OnError::kSkip); }),
                       {"none of its class folders has images"}));
}

std::vector<uint8_t> cifar_records(std::vector<uint8_t> labels, size_t label_bytes) {
  std::vector<uint8_t> bytes;
  for (uint8_t label : labels) {
    if (label_bytes == 2) bytes.push_back(19);
    bytes.push_back(label);
    for (int c = 0; c < 3; ++c) bytes.insert(bytes.end(), 1024, static_cast<uint8_t>(label + c));
    bytes[bytes.size() - 1024 + 33] = 77;  // blue at (1, 1)
  }
  return bytes;
}

TEST(Cifar, ReadsPlanesAndLabels) {
  TempFolder folder;
  folder.write("test_batch.bin", cifar_records({3, 9}, 1));
  const ImageSourcePtr source = cifar10(folder.path(), Subset::kValidation);
  ASSERT_EQ(source->size(), 2);
  EXPECT_EQ(source->classes(), 10);
  EXPECT_EQ(source->label(1), 9);
  const Image image = source->load(1);
  EXPECT_EQ(std::vector<uint8_t>(image.row(1), image.row(1) + 6),
            (std::vector<uint8_t>{9, 10, 11, 9, 10, 77}));
}

TEST(Cifar, HundredUsesTheFineLabel) {
  TempFolder folder;
  folder.write("train.bin", cifar_records({99}, 2));
  const ImageSourcePtr source = cifar100(folder.path(), Subset::kTrain);
  EXPECT_EQ(source->label(0), 99);
  EXPECT_EQ(source->classes(), 100);
}

TEST(Cifar, WrongSizeOrLabelIsAnError) {
  TempFolder folder;
  std::vector<uint8_t> bytes = cifar_records({3, 10}, 1);
  folder.write("test_batch.bin", bytes);
  EXPECT_TRUE(mentions(error_of([&] { cifar10(folder.path(), Subset::kValidation); }),
                       {"image 1 has label 10, expected 0 to 9"}));
  bytes.pop_back();
  folder.write("test_batch.bin", bytes);
  EXPECT_TRUE(mentions(error_of([&] { cifar10(folder.path(), Subset::kValidation); }),
                       {"expected a multiple of 3073"}));
  EXPECT_TRUE(mentions(error_of([&] { cifar10(folder.path(), Subset::kTrain); }),
                       {"data_batch_1.bin: cannot open"}));
}

TEST(Cifar, CanLeaveOutLabelsOutOfRange) {
  TempFolder folder;
  folder.write("test_batch.bin", cifar_records({3, 10, 9, 255, 0}, 1));
  ImageSourcePtr source;
  const std::string said =
      logged([&] { source = cifar10(folder.path(), Subset::kValidation, OnError::kSkip); }, folder);
  EXPECT_TRUE(mentions(said, {"image 1 has label 10, expected 0 to 9", "(2 in all)"}));
  EXPECT_EQ(std::count(said.begin(), said.end(), '\n'), 1) << said;
  ASSERT_EQ(source->size(), 3);
  const uint8_t labels[] = {3, 9, 0};
  for (int64_t i = 0; i < 3; ++i) {
    EXPECT_EQ(source->label(i), labels[i]);
    EXPECT_EQ(source->load(i).row(0)[0], labels[i]) << "the pixels that belong to the label";
  }
  folder.write("test_batch.bin", cifar_records({10}, 1));
  EXPECT_TRUE(
      mentions(error_of([&] { cifar10(folder.path(), Subset::kValidation, OnError::kSkip); }),
               {"image 0 has label 10", "no image has a label in range"}));
}

std::vector<uint8_t> idx(std::vector<uint8_t> sizes, std::vector<uint8_t> data) {
  std::vector<uint8_t> bytes{0, 0, 8, static_cast<uint8_t>(sizes.size())};
  for (uint8_t size : sizes) bytes.insert(bytes.end(), {0, 0, 0, size});
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}

void write_gzip(const std::string& path, const std::vector<uint8_t>& bytes) {
  gzFile file = gzopen(path.c_str(), "wb");
  gzwrite(file, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(file);
}

TEST(Mnist, ReadsPlainAndGzipped) {
  TempFolder folder;
  folder.write("train-labels-idx1-ubyte", idx({2}, {7, 0}));
  write_gzip(folder.path() + "/train-images-idx3-ubyte.gz", idx({2, 1, 3}, {1, 2, 3, 4, 5, 6}));
  const ImageSourcePtr source = mnist(folder.path(), Subset::kTrain);
  ASSERT_EQ(source->size(), 2);
  EXPECT_EQ(source->label(0), 7);
  EXPECT_EQ(source->load(1).width, 3);
  EXPECT_EQ(source->load(1).rgb, (std::vector<uint8_t>{4, 4, 4, 5, 5, 5, 6, 6, 6}));
}

TEST(Mnist, CanLeaveOutLabelsOutOfRange) {
  TempFolder folder;
  folder.write("t10k-labels-idx1-ubyte", idx({2}, {11, 4}));
  folder.write("t10k-images-idx3-ubyte", idx({2, 1, 1}, {1, 2}));
  ImageSourcePtr source;
  EXPECT_TRUE(mentions(
      logged([&] { source = mnist(folder.path(), Subset::kValidation, OnError::kSkip); }, folder),
      {"t10k-labels-idx1-ubyte: image 0 has label 11", "(1 in all)"}));
  ASSERT_EQ(source->size(), 1);
  EXPECT_EQ(source->label(0), 4);
  EXPECT_EQ(source->load(0).rgb, (std::vector<uint8_t>{2, 2, 2}));
}

TEST(Mnist, InconsistentFilesAreErrors) {
  TempFolder folder;
  const auto message = [&] { return error_of([&] { mnist(folder.path(), Subset::kValidation); }); };
  folder.write("t10k-images-idx3-ubyte", idx({2, 1, 1}, {1, 2}));
  EXPECT_TRUE(mentions(message(), {"t10k-labels-idx1-ubyte.gz: cannot open"}));
  folder.write("t10k-labels-idx1-ubyte", idx({3}, {1, 2, 3}));
  EXPECT_TRUE(mentions(message(), {"2 images", "3 labels"}));
  folder.write("t10k-labels-idx1-ubyte", idx({2}, {1, 11}));
  EXPECT_TRUE(mentions(message(), {"image 1 has label 11, expected 0 to 9"}));
  folder.write("t10k-labels-idx1-ubyte", idx({2}, {1}));
  EXPECT_TRUE(mentions(message(), {"ends early"}));
  folder.write("t10k-labels-idx1-ubyte", idx({2}, {1, 2, 3}));
  EXPECT_TRUE(mentions(message(), {"longer than its header says"}));
  std::vector<uint8_t> promise = idx({0, 0, 0}, {1, 2});
  for (const size_t i : {6, 10, 14}) promise[i] = 16;  // 4096 a side: 69 GB, it says
  folder.write("t10k-images-idx3-ubyte", promise);
  EXPECT_TRUE(mentions(message(), {"t10k-images-idx3-ubyte: the file ends early"}));
  folder.write("t10k-images-idx3-ubyte", idx({2}, {1, 2}));
  EXPECT_TRUE(mentions(message(), {"not an IDX file of unsigned bytes with 3 dimensions"}));
}

TEST(SyntheticImages, ArePureFunctionsOfSeedAndIndex) {
  const ImageSourcePtr first = synthetic_images(50, 10, 32, 1);
  const ImageSourcePtr again = synthetic_images(20, 10, 32, 1);
  const ImageSourcePtr other = synthetic_images(50, 10, 32, 2);
  std::set<std::string> distinct;
  for (int64_t i = 0; i < 20; ++i) {
    EXPECT_EQ(first->load(i), again->load(i));
    EXPECT_NE(first->load(i), other->load(i));
    EXPECT_EQ(first->label(i), i % 10);
    distinct.insert(key_of(first->load(i)));
  }
  EXPECT_EQ(distinct.size(), 20u);
}

// The difference between a picture's extremes shows that a shape stands out of its background.
TEST(SyntheticImages, ShowAShapeInEveryClass) {
  const ImageSourcePtr source = synthetic_images(80, kMaxSyntheticClasses, 32, 3);
  EXPECT_EQ(
      std::set<std::string>(source->class_names().begin(), source->class_names().end()).size(),
      static_cast<size_t>(kMaxSyntheticClasses));
  for (int64_t i = 0; i < source->size(); ++i) {
    const Image image = source->load(i);
    const auto [low, high] = std::minmax_element(image.rgb.begin(), image.rgb.end());
    EXPECT_GT(*high - *low, 60) << source->class_names()[source->label(i)];
  }
}

TEST(SyntheticImages, RefuseImpossibleSizes) {
  EXPECT_NE(error_of([] { synthetic_images(10, 41, 32, 0); }), "");
  EXPECT_NE(error_of([] { synthetic_images(0, 10, 32, 0); }), "");
}

TEST(HoldOut, SplitsWithoutOverlapOrLoss) {
  for (const int64_t size : {11, 12, 15, 16}) {
    const ImageSourcePtr whole = synthetic_images(size, 10, 8, 1);
    const ImageSourcePtr train = hold_out(whole, 5, Subset::kTrain);
    const ImageSourcePtr validation = hold_out(whole, 5, Subset::kValidation);
    EXPECT_NE(train->identity(), whole->identity());
    EXPECT_NE(train->identity(), hold_out(whole, 4, Subset::kTrain)->identity());
    EXPECT_EQ(train->size() + validation->size(), size);
    std::multiset<std::string> expected, seen;
    for (int64_t i = 0; i < size; ++i) expected.insert(key_of(whole->load(i)));
    for (int64_t i = 0; i < train->size(); ++i) seen.insert(key_of(train->load(i)));
    for (int64_t i = 0; i < validation->size(); ++i) {
      seen.insert(key_of(validation->load(i)));
      EXPECT_EQ(validation->load(i), whole->load(5 * i));
      EXPECT_EQ(validation->label(i), whole->label(5 * i));
    }
    EXPECT_EQ(seen, expected);
  }
}

TEST(HoldOut, RefusesToHoldOutEverything) {
  EXPECT_NE(error_of([] { hold_out(synthetic_images(4, 2, 8, 1), 1, Subset::kTrain); }), "");
}

}  // namespace
}  // namespace quench::testing_images
