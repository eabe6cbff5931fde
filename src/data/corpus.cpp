#include "data/corpus.h"

#include <fnmatch.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "base/parallel.h"
#include "base/random.h"
#include "base/signals.h"
#include "io/atomic_file.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

using Components = std::vector<std::string>;

bool has_wildcard(const std::string& component) {
  return component.find_first_of("*?[") != component.npos;
}

// Adds every file below `folder` that the components from `at` on match.
void collect(const fs::path& folder, const Components& components, size_t at,
             std::vector<fs::path>& found) {
  const std::string& component = components[at];
  const bool last = at + 1 == components.size();
  if (component == "**" && !last) collect(folder, components, at + 1, found);
  std::error_code unreadable, broken;
  for (const auto& entry : fs::directory_iterator(folder, unreadable)) {
    const std::string name = entry.path().filename();
    const bool is_folder = entry.is_directory(broken);
    const auto take = [&] {
      if (entry.is_regular_file(broken)) return found.push_back(entry.path());
      if (!is_folder) log_warning(concat(entry.path().string(), " is no file; it is left out."));
    };
    if (component == "**") {
      if (name.starts_with('.')) continue;
      if (is_folder && !entry.is_symlink()) collect(entry.path(), components, at, found);
      if (last) take();
    } else if (fnmatch(component.c_str(), name.c_str(), FNM_PERIOD) == 0) {
      if (!last && is_folder) collect(entry.path(), components, at + 1, found);
      if (last) take();
    }
  }
  check(!unreadable || unreadable == std::errc::no_such_file_or_directory ||
            unreadable == std::errc::not_a_directory,
        "cannot read the folder ", folder.string(), ": ", unreadable.message(), ".");
}

std::vector<TextFile> expand(const std::string& pattern) {
  const fs::path path = fs::path(pattern).lexically_normal();
  fs::path base;
  Components components;
  for (const fs::path& component : path) {
    if (components.empty() && !has_wildcard(component)) {
      base /= component;
    } else {
      components.push_back(component);
    }
  }
  std::vector<TextFile> files;
  std::error_code none;
  if (fs::is_regular_file(path, none)) return {{path, path.filename()}};
  if (components.empty()) return {};
  std::vector<fs::path> found;
  collect(base.empty() ? "." : base, components, 0, found);
  for (const fs::path& file : found) {
    const fs::path normal = file.lexically_normal();
    files.push_back({normal, normal.lexically_relative(base.empty() ? "." : base)});
  }
  return files;
}

bool is_blank(std::string_view text) {
  return std::ranges::all_of(text, [](unsigned char c) { return c <= ' '; });
}

std::ifstream open_text(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  check(in.is_open(), "cannot read ", path, ": ", std::strerror(errno), ".");
  return in;
}

std::string not_utf8(const std::string& path, int64_t line, int64_t offset, unsigned char byte) {
  constexpr char kDigits[] = "0123456789abcdef";
  const bool utf16 = offset == 0 && byte >= 0xfe;
  return concat(path, ":", line, ": byte 0x", kDigits[byte >> 4], kDigits[byte & 15], " at offset ",
                offset, " of the file is not UTF-8", utf16 ? " (perhaps it is UTF-16)" : "");
}

}  // namespace

std::vector<TextFile> expand_files(const std::vector<std::string>& patterns) {
  std::vector<TextFile> files;
  std::set<std::string> seen;
  for (const std::string& pattern : patterns) {
    std::error_code none;
    const std::vector<TextFile> matches = expand(pattern);
    check(!matches.empty(), "no file matches \"", pattern, "\"",
          fs::is_directory(pattern, none)
              ? concat("; it is a folder, perhaps you meant \"", pattern, "/**/*.txt\"?")
              : ".");
    for (const TextFile& file : matches) {
      if (seen.insert(fs::absolute(file.path).lexically_normal()).second) files.push_back(file);
    }
  }
  std::ranges::sort(files, {},
                    [](const TextFile& file) { return std::pair(file.name, file.path); });
  return files;
}

DocumentUnit document_unit(std::string_view name) {
  if (name == "line") return DocumentUnit::kLine;
  if (name == "paragraph") return DocumentUnit::kParagraph;
  if (name == "file") return DocumentUnit::kFile;
  fail("a document is a \"", name, "\"; expected line, paragraph or file.");
}

InvalidUtf8 invalid_utf8(std::string_view name) {
  if (name == "error") return InvalidUtf8::kError;
  if (name == "skip_file") return InvalidUtf8::kSkipFile;
  if (name == "replace") return InvalidUtf8::kReplace;
  fail("invalid_utf8 is \"", name, "\"; expected error, skip_file or replace.");
}

size_t find_invalid_utf8(std::string_view text) {
  const auto byte = [&](size_t i) -> unsigned char { return i < text.size() ? text[i] : 0; };
  for (size_t i = 0; i < text.size();) {
    uint64_t word;
    if (i + 8 <= text.size() &&
        (std::memcpy(&word, text.data() + i, 8), (word & 0x8080808080808080u) == 0)) {
      i += 8;
      continue;
    }
    const unsigned char lead = byte(i), second = byte(i + 1);
    const int length = lead < 0x80   ? 1
                       : lead < 0xc2 ? 0
                       : lead < 0xe0 ? 2
                       : lead < 0xf0 ? 3
                       : lead < 0xf5 ? 4
                                     : 0;
    // The second byte's range excludes overlong forms, surrogates and what lies beyond U+10FFFF.
    const unsigned char low = lead == 0xe0 ? 0xa0 : lead == 0xf0 ? 0x90 : 0x80;
    const unsigned char high = lead == 0xed ? 0x9f : lead == 0xf4 ? 0x8f : 0xbf;
    if (length == 0 || (length > 1 && (second < low || second > high))) return i;
    for (int k = 2; k < length; ++k) {
      if ((byte(i + k) & 0xc0) != 0x80) return i;
    }
    i += length;
  }
  return text.npos;
}

namespace {

struct Scanned {
  int64_t bytes = 0;
  std::string hash;
  bool blank = true;
  std::string invalid;  // what is not UTF-8, where; empty: nothing
};

Scanned scan_file(const std::string& path) {
  LineReader lines(path);
  Scanned result;
  ContentHash hash;
  std::string part;
  int64_t number = 1;
  for (bool ends = true; lines.next(part, ends); number += ends) {
    stop_if_signalled();
    const size_t bad = result.invalid.empty() ? find_invalid_utf8(part) : part.npos;
    if (bad != part.npos) {
      result.invalid = not_utf8(path, number, result.bytes + static_cast<int64_t>(bad), part[bad]);
    }
    result.blank = result.blank && is_blank(part);
    if (lines.newline()) part += '\n';
    hash.update(part);
    result.bytes += static_cast<int64_t>(part.size());
  }
  result.hash = hash.hex();
  return result;
}

}  // namespace

Corpus scan(const std::vector<TextFile>& files, InvalidUtf8 invalid) {
  std::vector<Scanned> results(files.size());
  parallel_for(static_cast<int64_t>(files.size()), processors(),
               [&](int64_t i) { results[i] = scan_file(files[i].path); });
  Corpus corpus;
  ContentHash hash;
  for (size_t i = 0; i < files.size(); ++i) {
    const TextFile& file = files[i];
    const Scanned& scanned = results[i];
    if (scanned.blank) {
      corpus.warnings.push_back(file.path + " is empty; it is left out.");
      continue;
    }
    if (!scanned.invalid.empty() && invalid == InvalidUtf8::kSkipFile) {
      corpus.warnings.push_back(scanned.invalid + "; the file is left out.");
      continue;
    }
    check(scanned.invalid.empty() || invalid == InvalidUtf8::kReplace, scanned.invalid,
          ". Convert the file, or set invalid_utf8 to skip_file or replace.");
    corpus.files.push_back(file);
    corpus.bytes += scanned.bytes;
    hash.update(concat(file.name, '\0', scanned.bytes, '\0', scanned.hash, '\0'));
  }
  check(!corpus.files.empty(), "there is no text: of ", files.size(), " files none is left",
        corpus.warnings.empty() ? "." : concat(". The first: ", corpus.warnings.front()));
  corpus.hash = hash.hex();
  return corpus;
}

namespace {

// What tells whether files have changed since a scan: name, path, size, time of change.
Json facts_of(const std::vector<TextFile>& files, InvalidUtf8 invalid) {
  Json facts = {{"invalid_utf8", static_cast<int>(invalid)}, {"files", Json::array()}};
  for (const TextFile& file : files) {
    struct stat s {};
    check(::stat(file.path.c_str(), &s) == 0, "cannot read ", file.path, ": ", std::strerror(errno),
          ".");
    facts["files"].push_back({file.name, fs::absolute(file.path).lexically_normal().string(),
                              s.st_size, s.st_mtim.tv_sec, s.st_mtim.tv_nsec});
  }
  return facts;
}

}  // namespace

Corpus scan_once(const std::vector<TextFile>& files, InvalidUtf8 invalid, const std::string& record,
                 bool again) {
  if (record.empty()) return scan(files, invalid);
  const Json facts = facts_of(files, invalid);
  if (!again && fs::exists(record)) {
    const Json known = parse_json(read_file(record), /*allow_exceptions=*/false);
    if (known.is_object() && known.value("facts", Json()) == facts) {
      Corpus corpus;
      for (const size_t i : known.at("kept")) corpus.files.push_back(files.at(i));
      corpus.bytes = known.at("bytes");
      corpus.hash = known.at("hash");
      corpus.warnings = known.at("warnings").get<std::vector<std::string>>();
      return corpus;
    }
  }
  const Corpus corpus = scan(files, invalid);
  if (facts_of(files, invalid) != facts) return corpus;  // changed while it was read
  Json kept = Json::array();
  size_t next = 0;
  for (size_t i = 0; i < files.size() && next < corpus.files.size(); ++i) {
    if (files[i].path != corpus.files[next].path) continue;
    kept.push_back(i);
    ++next;
  }
  fs::create_directories(fs::path(record).parent_path());
  write_file_atomically(record, dump(Json{{"facts", facts},
                                          {"kept", kept},
                                          {"bytes", corpus.bytes},
                                          {"hash", corpus.hash},
                                          {"warnings", corpus.warnings}}) +
                                    "\n");
  return corpus;
}

LineReader::LineReader(const std::string& path)
    : path_(path), in_(open_text(path)), buffer_(kLongestPart + 1) {}

bool LineReader::next(std::string& part, bool& ends) {
  part = std::move(rest_);
  rest_.clear();
  const size_t room = kLongestPart - part.size();
  in_.getline(buffer_.data(), static_cast<std::streamsize>(room + 1));
  const auto count = static_cast<size_t>(in_.gcount());
  check(!in_.bad(), "cannot read ", path_, ": ", std::strerror(errno), ".");
  if (count == 0 && part.empty()) return false;
  const bool full = in_.fail() && !in_.eof();  // neither \n nor the file's end so far
  if (full) in_.clear();
  newline_ = !full && !in_.eof();
  part.append(buffer_.data(), count - newline_);
  ends = !full;
  if (ends) return true;
  // The last blank, looked for in the second half; else where a character begins.
  size_t cut = part.size() - 1;
  while (cut > part.size() / 2 && !is_blank(std::string_view(part).substr(cut, 1))) --cut;
  if (cut == part.size() / 2) {
    cut = part.size() - 1;
    for (int i = 0; i < 3 && (static_cast<unsigned char>(part[cut]) & 0xc0) == 0x80; ++i) --cut;
  }
  rest_ = part.substr(cut);
  part.resize(cut);
  return true;
}

DocumentReader::DocumentReader(const std::string& path, DocumentUnit unit, InvalidUtf8 invalid)
    : path_(path), unit_(unit), invalid_(invalid), lines_(path) {}

bool DocumentReader::next_part(std::string& part, bool& ends) {
  if (!lines_.next(part, ends)) return false;
  const int64_t start = offset_;
  offset_ += static_cast<int64_t>(part.size()) + lines_.newline();
  for (size_t at = find_invalid_utf8(part); at != part.npos;) {
    check(invalid_ == InvalidUtf8::kReplace,
          not_utf8(path_, line_number_, start + static_cast<int64_t>(at), part[at]), ".");
    constexpr std::string_view kReplacement = "\xef\xbf\xbd";
    part.replace(at, 1, kReplacement);
    const size_t rest = at + kReplacement.size();
    at = find_invalid_utf8(std::string_view(part).substr(rest));
    if (at != part.npos) at += rest;
  }
  line_number_ += ends;
  if (start == 0 && part.starts_with("\xef\xbb\xbf")) part.erase(0, 3);
  if (ends && part.ends_with('\r')) part.pop_back();
  return true;
}

bool DocumentReader::next(Document& document) {
  std::string part;
  std::string& text = document.text;
  text.clear();
  document.begins = !inside_;
  const auto hand_out = [&](bool ends) {
    document.ends = ends;
    inside_ = !ends;
    return true;
  };
  for (bool ends = true; next_part(part, ends);) {
    const bool blank = is_blank(part) && !mid_line_ && ends;
    const bool joins =
        unit_ == DocumentUnit::kParagraph && !mid_line_ && (!text.empty() || inside_);
    mid_line_ = !ends;
    if (unit_ == DocumentUnit::kFile) {
      text += part;
      if (ends) text += '\n';
    } else if (!blank) {
      text += (joins ? "\n" : "") + part;
    }
    if (unit_ == DocumentUnit::kLine && !blank) return hand_out(ends);
    if (unit_ == DocumentUnit::kParagraph && blank && (!text.empty() || inside_))
      return hand_out(true);
    if (text.size() >= kLongestPart / 2) return hand_out(false);
  }
  while (text.ends_with('\n')) text.pop_back();
  if (inside_) return hand_out(true);  // perhaps without text: nothing came behind its last part
  return !is_blank(text) && hand_out(true);
}

bool CorpusReader::next(Document& document) {
  while (!reader_ || !reader_->next(document)) {
    if (next_ == files_.size()) return false;
    reader_.emplace(files_[next_++].path, unit_, invalid_);
  }
  return true;
}

FileSplit split_files(const std::vector<TextFile>& files, double validation_share, uint64_t seed) {
  check(validation_share >= 0 && validation_share < 1, "validation_share is ", validation_share,
        "; expected a number from 0 up to, but not including, 1.");
  if (validation_share == 0) return {files, {}};
  check(!files.empty(), "there is no file to split into train and validation.");
  if (files.size() == 1) return {files, files, /*within_file=*/true};
  std::vector<double> draws;
  std::map<std::string_view, uint64_t> namesakes;  // files of several patterns may share a name
  for (const TextFile& file : files) {
    ContentHash name;
    name.update(file.name);
    draws.push_back(CounterRng{kSplit, seed, name.value(), namesakes[file.name]++}.uniform());
  }
  // In validation: the draws below the border; the border moves only if one side would be empty.
  const auto [low, high] = std::ranges::minmax(draws);
  const double border = std::clamp(validation_share, std::nextafter(low, 1.0), high);
  FileSplit split;
  for (size_t i = 0; i < files.size(); ++i) {
    (draws[i] < border ? split.validation : split.train).push_back(files[i]);
  }
  return split;
}

}  // namespace quench
