#include "data/corpus.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "tests/data/scratch.h"

namespace quench {
namespace {

using Strings = std::vector<std::string>;

Strings names(const std::vector<TextFile>& files) {
  Strings result;
  for (const TextFile& file : files) result.push_back(file.name);
  return result;
}

Strings documents(const std::string& path, DocumentUnit unit,
                  InvalidUtf8 invalid = InvalidUtf8::kError) {
  DocumentReader reader(path, unit, invalid);
  Strings result;
  for (Document document; reader.next(document);) {
    if (document.begins) result.emplace_back();
    result.back() += document.text;
  }
  return result;
}

TEST(ExpandFiles, MatchesWildcardsInNamesAndFolders) {
  const Scratch scratch;
  for (const char* name : {"b.txt", "a.txt", "x/c.txt", "x/y/d.txt", "x/y/e.md", ".hidden/f.txt"}) {
    scratch.write(name, "text");
  }
  EXPECT_EQ(names(expand_files({scratch / "*.txt"})), (Strings{"a.txt", "b.txt"}));
  EXPECT_EQ(names(expand_files({scratch / "**/*.txt"})),
            (Strings{"a.txt", "b.txt", "x/c.txt", "x/y/d.txt"}));
  EXPECT_EQ(names(expand_files({scratch / "x/**"})), (Strings{"c.txt", "y/d.txt", "y/e.md"}));
  EXPECT_EQ(names(expand_files({scratch / "*/?/[de].*"})), (Strings{"x/y/d.txt", "x/y/e.md"}));
  EXPECT_EQ(names(expand_files({scratch / "x/c.txt"})), (Strings{"c.txt"}));
}

TEST(ExpandFiles, NamesEachFileOnce) {
  const Scratch scratch;
  scratch.write("x/a.txt", "text");
  scratch.write("x/b.txt", "text");
  const auto files =
      expand_files({scratch / "x/*.txt", scratch / "**/a.txt", scratch / "x/../x/b.txt"});
  EXPECT_EQ(names(files), (Strings{"a.txt", "b.txt"}));
}

TEST(ExpandFiles, LinksThatLeadNowhereAreLeftOut) {
  const Scratch scratch;
  scratch.write("x/a.txt", "text");
  std::filesystem::create_symlink("loop.txt", scratch / "x/loop.txt");
  std::filesystem::create_symlink("missing.txt", scratch / "x/broken.txt");
  EXPECT_EQ(names(expand_files({scratch / "x/*.txt"})), (Strings{"a.txt"}));
  EXPECT_EQ(names(expand_files({scratch / "**/*.txt"})), (Strings{"x/a.txt"}));
  EXPECT_NE(error_of([&] { expand_files({scratch / "x/loop.txt"}); }).find("loop.txt"),
            std::string::npos);
}

TEST(ExpandFiles, AFolderThatCannotBeReadIsAnError) {
  if (::geteuid() == 0) GTEST_SKIP() << "root reads everything";
  const Scratch scratch;
  scratch.write("a.txt", "text");
  scratch.write("x/b.txt", "text");
  std::filesystem::permissions(scratch / "x", std::filesystem::perms::none);
  EXPECT_NE(error_of([&] { expand_files({scratch / "**/*.txt"}); }).find("cannot read the folder"),
            std::string::npos);
  std::filesystem::permissions(scratch / "x", std::filesystem::perms::owner_all);
}

TEST(ExpandFiles, ErrorNamesThePatternWithoutMatch) {
  const Scratch scratch;
  scratch.write("a.txt", "text");
  EXPECT_NE(error_of([&] {
              expand_files({scratch / "a.txt", scratch / "*.text"});
            }).find("*.text"),
            std::string::npos);
  EXPECT_NE(error_of([&] { expand_files({scratch / ""}); }).find("folder"), std::string::npos);
  const std::string long_name(5000, 'x');  // found by fuzzing
  EXPECT_NE(error_of([&] { expand_files({long_name}); }).find("no file matches"),
            std::string::npos);
}

TEST(Utf8, FindsTheFirstIllFormedByte) {
  const auto npos = std::string::npos;
  EXPECT_EQ(find_invalid_utf8(""), npos);
  EXPECT_EQ(find_invalid_utf8("plain ASCII, longer than a word"), npos);
  EXPECT_EQ(
      find_invalid_utf8("na\xc3\xafve \xe2\x82\xac \xf0\x9f\x98\x80 \xed\x9f\xbf \xf4\x8f\xbf\xbf"),
      npos);
  EXPECT_EQ(find_invalid_utf8("12345678\xff"), 8u);
  EXPECT_EQ(find_invalid_utf8("a\x80"), 1u);             // a continuation alone
  EXPECT_EQ(find_invalid_utf8("ab\xc3"), 2u);            // cut off
  EXPECT_EQ(find_invalid_utf8("\xe2\x82z"), 0u);         // cut off inside
  EXPECT_EQ(find_invalid_utf8("\xc0\xaf"), 0u);          // overlong
  EXPECT_EQ(find_invalid_utf8("\xe0\x9f\xbf"), 0u);      // overlong
  EXPECT_EQ(find_invalid_utf8("\xf0\x8f\xbf\xbf"), 0u);  // overlong
  EXPECT_EQ(find_invalid_utf8("\xed\xa0\x80"), 0u);      // surrogate
  EXPECT_EQ(find_invalid_utf8("\xf4\x90\x80\x80"), 0u);  // beyond U+10FFFF
}

TEST(Scan, ErrorNamesFileLineAndByteOfWhatIsNotUtf8) {
  const Scratch scratch;
  const std::string path = scratch.write("latin1.txt", "first\nna\xefve\n");
  const std::string error = error_of([&] { scan({{path, "latin1.txt"}}, InvalidUtf8::kError); });
  EXPECT_NE(error.find("latin1.txt:2: byte 0xef at offset 8 of the file"), std::string::npos)
      << error;
}

TEST(Scan, GuessesUtf16) {
  const Scratch scratch;
  const std::string path = scratch.write("utf16.txt", std::string_view("\xff\xfe"
                                                                       "a\0",
                                                                       4));
  EXPECT_NE(error_of([&] {
              scan({{path, "u"}}, InvalidUtf8::kError);
            }).find("UTF-16"),
            std::string::npos);
}

TEST(Scan, LeavesOutBadFilesWhenAsked) {
  const Scratch scratch;
  const TextFile good{scratch.write("good.txt", "good"), "good.txt"};
  const TextFile bad{scratch.write("bad.txt", "\xff"), "bad.txt"};
  const Corpus corpus = scan({bad, good}, InvalidUtf8::kSkipFile);
  EXPECT_EQ(names(corpus.files), (Strings{"good.txt"}));
  EXPECT_EQ(corpus.bytes, 4);
  ASSERT_EQ(corpus.warnings.size(), 1u);
  EXPECT_NE(corpus.warnings[0].find("bad.txt"), std::string::npos);
  EXPECT_EQ(scan({bad, good}, InvalidUtf8::kReplace).files.size(), 2u);
}

TEST(Scan, LeavesOutEmptyFilesWithAWarningAndRefusesNothingElse) {
  const Scratch scratch;
  const TextFile good{scratch.write("good.txt", "good"), "good.txt"};
  const TextFile empty{scratch.write("empty.txt", ""), "empty.txt"};
  const TextFile blank{scratch.write("blank.txt", " \n\n"), "blank.txt"};
  const Corpus corpus = scan({blank, empty, good}, InvalidUtf8::kError);
  EXPECT_EQ(names(corpus.files), (Strings{"good.txt"}));
  EXPECT_EQ(corpus.warnings.size(), 2u);
  EXPECT_NE(error_of([&] {
              scan({empty, blank}, InvalidUtf8::kError);
            }).find("empty.txt"),
            std::string::npos);
}

TEST(Scan, HashDependsOnNameAndContentButNotOnThePlace) {
  const Scratch scratch;
  const auto hash = [&](const char* file, const char* name, const char* content) {
    return scan({{scratch.write(file, content), name}}, InvalidUtf8::kError).hash;
  };
  const std::string reference = hash("here.txt", "a.txt", "text");
  EXPECT_EQ(hash("there.txt", "a.txt", "text"), reference);
  EXPECT_NE(hash("here.txt", "b.txt", "text"), reference);
  EXPECT_NE(hash("here.txt", "a.txt", "texT"), reference);
  EXPECT_NE(hash("here.txt", "a.txt", "text\n"), reference);
}

TEST(DocumentReader, SplitsAsAsked) {
  const Scratch scratch;
  const std::string path = scratch.write("t.txt",
                                         "\xef\xbb\xbf"
                                         "one\r\ntwo\r\n\r\n \nthree\nfour");
  EXPECT_EQ(documents(path, DocumentUnit::kLine), (Strings{"one", "two", "three", "four"}));
  EXPECT_EQ(documents(path, DocumentUnit::kParagraph), (Strings{"one\ntwo", "three\nfour"}));
  EXPECT_EQ(documents(path, DocumentUnit::kFile), (Strings{"one\ntwo\n\n \nthree\nfour"}));
}

// A line and a document of any size come in parts, which are the whole together.
TEST(DocumentReader, HandsOutInPartsWhatIsLong) {
  const Scratch scratch;
  std::string words, letters;
  while (words.size() < 3 * kLongestPart) words += "some words ";
  words += "end";
  while (letters.size() < 3 * kLongestPart) letters += "\u4e2d";
  const std::string path = scratch.write("a.txt", words + "\r\n" + letters + "\n\nlast\n");
  const auto parts = [&](DocumentUnit unit) {
    DocumentReader reader(path, unit, InvalidUtf8::kError);
    int64_t count = 0;
    bool ended = true;
    for (Document document; reader.next(document); ended = document.ends, ++count) {
      EXPECT_LE(document.text.size(), kLongestPart + kLongestPart / 2);
      EXPECT_EQ(document.begins, ended);
      EXPECT_EQ(find_invalid_utf8(document.text), std::string::npos);
    }
    EXPECT_TRUE(ended);
    return count;
  };
  EXPECT_EQ(documents(path, DocumentUnit::kLine), (Strings{words, letters, "last"}));
  EXPECT_EQ(documents(path, DocumentUnit::kParagraph), (Strings{words + "\n" + letters, "last"}));
  EXPECT_EQ(documents(path, DocumentUnit::kFile), (Strings{words + "\n" + letters + "\n\nlast"}));
  for (const auto unit : {DocumentUnit::kLine, DocumentUnit::kParagraph, DocumentUnit::kFile})
    EXPECT_GE(parts(unit), 7);
  EXPECT_EQ(scan({{path, "a.txt"}}, InvalidUtf8::kError).bytes,
            static_cast<int64_t>(words.size() + letters.size() + 9));
}

TEST(DocumentReader, ReplacesWhatIsNotUtf8) {
  const Scratch scratch;
  const std::string path = scratch.write("t.txt",
                                         "a\xff\xfe"
                                         "b\n\xc3");
  EXPECT_EQ(documents(path, DocumentUnit::kLine, InvalidUtf8::kReplace),
            (Strings{"a\xef\xbf\xbd\xef\xbf\xbd"
                     "b",
                     "\xef\xbf\xbd"}));
  EXPECT_THROW(documents(path, DocumentUnit::kLine), Error);
}

std::vector<TextFile> many_files(int count) {
  std::vector<TextFile> files;
  for (int i = 0; i < count; ++i) files.push_back({concat("/data/", i), concat(i)});
  return files;
}

TEST(SplitFiles, PutsAboutTheShareInValidation) {
  const FileSplit split = split_files(many_files(2000), 0.1, 1);
  EXPECT_NEAR(static_cast<double>(split.validation.size()), 200, 4 * 13.4);
  EXPECT_EQ(split.train.size() + split.validation.size(), 2000u);
  EXPECT_NE(names(split_files(many_files(2000), 0.1, 2).validation), names(split.validation));
}

TEST(SplitFiles, KeepsAFilesSideWhenOthersCome) {
  const Strings few = names(split_files(many_files(500), 0.2, 1).validation);
  const Strings many = names(split_files(many_files(1000), 0.2, 1).validation);
  EXPECT_TRUE(std::equal(few.begin(), few.end(), many.begin()));
}

TEST(SplitFiles, LeavesNeitherSideEmpty) {
  for (double share : {1e-9, 0.5, 1 - 1e-9}) {
    for (uint64_t seed = 0; seed < 20; ++seed) {
      const FileSplit split = split_files(many_files(2), share, seed);
      EXPECT_EQ(split.train.size(), 1u);
      EXPECT_EQ(split.validation.size(), 1u);
    }
  }
  EXPECT_EQ(split_files({{"x/a", "a"}, {"y/a", "a"}}, 0.5, 1).train.size(), 1u);
}

TEST(SplitFiles, ShareZeroTrainsOnEverything) {
  const FileSplit split = split_files(many_files(1), 0, 1);
  EXPECT_EQ(split.train.size(), 1u);
  EXPECT_TRUE(split.validation.empty());
  EXPECT_FALSE(split.within_file);
}

TEST(SplitFiles, ALoneFileIsSplitWithin) {
  const FileSplit split = split_files(many_files(1), 0.1, 1);
  EXPECT_EQ(names(split.train), Strings{"0"});
  EXPECT_EQ(names(split.validation), Strings{"0"});
  EXPECT_TRUE(split.within_file);
  EXPECT_FALSE(split_files(many_files(2), 0.1, 1).within_file);
}

TEST(SplitFiles, RefusesWhatItCannotSplit) {
  EXPECT_THROW(split_files(many_files(2), 1, 1), Error);
  EXPECT_THROW(split_files({}, 0.1, 1), Error);
}

}  // namespace
}  // namespace quench
