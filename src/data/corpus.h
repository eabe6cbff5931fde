// Text files to documents: which files, whether they are sound, which split they belong to, where
// documents begin.
#pragma once

#include <cstdint>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace quench {

struct TextFile {
  std::string path;
  // Relative to the fixed leading folders of its pattern: the same wherever the data lie.
  std::string name;
};

// The files that match `patterns`, sorted by name, each once. `*`, `?` and `[...]` match within a
// path component, `**` any number of folders (`data/**/*.txt`). Throws Error naming the pattern
// that matches no file.
std::vector<TextFile> expand_files(const std::vector<std::string>& patterns);

enum class DocumentUnit { kLine, kParagraph, kFile };    // paragraphs end at blank lines
enum class InvalidUtf8 { kError, kSkipFile, kReplace };  // replace: by U+FFFD

// From their names in a config: line, paragraph, file; error, skip_file, replace. Throws Error for
// any other.
DocumentUnit document_unit(std::string_view name);
InvalidUtf8 invalid_utf8(std::string_view name);

// Offset of the first byte of `text` that is not part of well-formed UTF-8 (Unicode 15, table 3-7);
// npos if none.
size_t find_invalid_utf8(std::string_view text);

// Text files that have been read once from end to end.
struct Corpus {
  std::vector<TextFile> files;  // without those that were left out
  int64_t bytes = 0;
  std::string hash;                   // of their names, sizes and contents
  std::vector<std::string> warnings;  // what was left out, and why
};

// Reads every file. Leaves out blank files, and with kSkipFile those that are not UTF-8. Throws
// Error for a file that cannot be read, for one that is not UTF-8 (kError; names file, line and
// byte), and when nothing is left; Interrupted (base/signals.h) between lines.
Corpus scan(const std::vector<TextFile>& files, InvalidUtf8 invalid);

// The same, without reading files that have the path, size and time of change that `record`, a file
// of an earlier call, remembers, unless they are to be read `again`; writes that file, whose folder
// is made if need be. An empty name: no record.
Corpus scan_once(const std::vector<TextFile>& files, InvalidUtf8 invalid, const std::string& record,
                 bool again = false);

// The lines of one file; one of more than kLongestPart bytes in parts, which end at blanks or at
// least between characters. So no file and no line needs memory for the whole of it.
inline constexpr size_t kLongestPart = 2 << 20;
class LineReader {
 public:
  explicit LineReader(const std::string& path);
  // `ends`: whether the line ends behind this part. False at the file's end.
  bool next(std::string& part, bool& ends);
  // Whether a \n stood behind the part.
  bool newline() const { return newline_; }

 private:
  std::string path_;
  std::ifstream in_;
  std::vector<char> buffer_;
  std::string rest_;  // of a line whose beginning was handed out
  bool newline_ = false;
};

// A document, or a part of one that is longer than kLongestPart.
struct Document {
  std::string text;
  bool begins = true, ends = true;
};

// The documents of one file in order. Blank ones are left out, line ends become \n, a byte order
// mark goes.
class DocumentReader {
 public:
  DocumentReader(const std::string& path, DocumentUnit unit, InvalidUtf8 invalid);
  bool next(Document& document);

 private:
  bool next_part(std::string& part, bool& ends);

  std::string path_;
  DocumentUnit unit_;
  InvalidUtf8 invalid_;
  LineReader lines_;
  int64_t line_number_ = 1;
  int64_t offset_ = 0;
  bool inside_ = false;    // a document that goes on
  bool mid_line_ = false;  // a line that goes on
};

// The documents of one file after the other.
class CorpusReader {
 public:
  CorpusReader(std::vector<TextFile> files, DocumentUnit unit, InvalidUtf8 invalid)
      : files_(std::move(files)), unit_(unit), invalid_(invalid) {}
  bool next(Document& document);

 private:
  std::vector<TextFile> files_;
  DocumentUnit unit_;
  InvalidUtf8 invalid_;
  size_t next_ = 0;
  std::optional<DocumentReader> reader_;
};

struct FileSplit {
  std::vector<TextFile> train, validation;
  bool within_file = false;  // both sides name the same lone file, and each is a part of its text
};

// Splits by file. A file's side is a function of its name, the share and the seed alone, except
// that neither side stays empty: then the file nearest to the border changes sides. A lone file is
// split within. Throws Error for a share outside [0, 1); share 0 puts every file in train.
FileSplit split_files(const std::vector<TextFile>& files, double validation_share, uint64_t seed);

}  // namespace quench
