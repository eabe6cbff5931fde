#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <map>
#include <set>
#include <utility>

#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"
#include "data/corpus.h"
#include "data/image/decode.h"
#include "data/image/source.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEndings = ".jpg, .jpeg, .png or .webp";

bool is_image(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png" || extension == ".webp";
}

bool is_hidden(const fs::path& path) { return path.filename().native().starts_with('.'); }

// Files of one kind that a folder holds and that are no pictures of its classes.
struct LeftOut {
  std::vector<std::string> first;  // some of them
  int64_t count = 0;

  void add(const fs::path& path) {
    if (first.size() < 3) first.push_back(path.string());
    ++count;
  }
  void tell(const std::string& what) const {
    if (count == 0) return;
    std::vector<std::string> names = first;
    if (count > std::ssize(first)) names.push_back("...");
    log_warning(concat(what, " left out (", count, "): ", listed(names)));
  }
};

// What lies below a folder of classes: hidden folders and files do not count.
class Listing {
 public:
  explicit Listing(const std::string& folder) {
    std::error_code unreadable;
    for (const auto& entry : fs::directory_iterator(folder, unreadable)) {
      std::error_code broken;
      if (is_hidden(entry.path())) {
        if (entry.is_directory(broken)) hidden_.add(entry.path());
      } else if (entry.is_directory(broken)) {
        visited_ = {identity(folder)};
        walk(entry.path(), classes_[entry.path().filename().string()]);
      } else {
        note(entry);
      }
    }
    check(!unreadable, folder, ": cannot be read: ", unreadable.message());
    for (auto& [name, files] : classes_) std::ranges::sort(files, before);
  }

  // Class -> its pictures, folder by folder, then by file name, as torchvision lists them.
  const std::map<std::string, std::vector<fs::path>>& classes() const { return classes_; }

  void tell() const {
    hidden_.tell("hidden folders");
    others_.tell(concat("files that do not end in ", kEndings));
    strays_.tell("pictures outside of the class folders");
    broken_.tell("links that lead nowhere");
    loops_.tell("links to a folder around them, or one that its class holds already");
  }

 private:
  using Identity = std::pair<dev_t, ino_t>;

  static Identity identity(const fs::path& folder) {
    struct stat facts {};
    check(::stat(folder.c_str(), &facts) == 0, folder.string(), ": cannot be read");
    return {facts.st_dev, facts.st_ino};
  }

  static bool before(const fs::path& a, const fs::path& b) {
    const int order = a.parent_path().native().compare(b.parent_path().native());
    return order != 0 ? order < 0 : a.filename().native() < b.filename().native();
  }

  void walk(const fs::path& folder, std::vector<fs::path>& files) {
    if (!visited_.insert(identity(folder)).second) return loops_.add(folder);
    std::error_code unreadable;
    std::vector<std::pair<bool, fs::path>> folders;  // those that are no links come first
    for (const auto& entry : fs::directory_iterator(folder, unreadable)) {
      std::error_code broken;
      if (is_hidden(entry.path())) {
        if (entry.is_directory(broken)) hidden_.add(entry.path());
      } else if (entry.is_directory(broken)) {
        folders.emplace_back(entry.is_symlink(broken), entry.path());
      } else if (entry.is_regular_file(broken) && is_image(entry.path())) {
        files.push_back(entry.path());
      } else {
        note(entry);
      }
    }
    check(!unreadable, folder.string(), ": cannot be read: ", unreadable.message());
    std::ranges::sort(folders);
    for (const auto& [is_link, path] : folders) walk(path, files);
  }

  void note(const fs::directory_entry& entry) {
    std::error_code broken;
    if (!entry.exists(broken)) return broken_.add(entry.path());
    (is_image(entry.path()) ? strays_ : others_).add(entry.path());
  }

  std::map<std::string, std::vector<fs::path>> classes_;
  std::set<Identity> visited_;  // around and within one class
  LeftOut hidden_, others_, strays_, broken_, loops_;
};

void check_names(const Listing& listing, const std::string& folder) {
  for (const auto& [name, files] : listing.classes())  // a checkpoint's JSON holds them
    check(find_invalid_utf8(name) == std::string::npos, folder, "/", name,
          ": the class's name is not UTF-8");
}

class ImageFolder : public ImageSource {
 public:
  ImageFolder(const std::string& folder, OnError on_error) {
    check(fs::is_directory(folder), folder, ": not a folder, expected one folder a class in it");
    const Listing listing(folder);
    check_names(listing, folder);
    check(!listing.classes().empty(), folder,
          ": no class folders in it, expected one folder of images a class");
    listing.tell();
    LeftOut empty;
    for (const auto& [name, files] : listing.classes()) {
      const fs::path class_folder = fs::path(folder) / name;
      check(!files.empty() || on_error == OnError::kSkip, class_folder.string(),
            ": this class has no images, expected ", kEndings, " files");
      if (files.empty()) {
        empty.add(class_folder);
        continue;
      }
      names_.push_back(name);
      for (const fs::path& file : files) {
        files_.push_back(file.string());
        std::error_code gone;
        hash_.update(concat(file.lexically_relative(folder).string(), '\0',
                            fs::file_size(file, gone), '\0'));
      }
      ends_.push_back(static_cast<int64_t>(files_.size()));
    }
    empty.tell("classes without images");
    check(!names_.empty(), folder, ": none of its class folders has images, expected ", kEndings,
          " files");
  }

  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  Image load(int64_t index) const override { return read_image(files_.at(index)); }
  int64_t label(int64_t index) const override {
    return std::upper_bound(ends_.begin(), ends_.end(), index) - ends_.begin();
  }
  const std::vector<std::string>& class_names() const override { return names_; }
  std::string identity() const override { return hash_.hex(); }

 private:
  ContentHash hash_;  // of names and sizes
  std::vector<std::string> names_;
  std::vector<std::string> files_;
  std::vector<int64_t> ends_;  // of each class in files_
};

}  // namespace

std::vector<std::string> image_classes(const std::string& folder, OnError on_error) {
  const Listing listing(folder);
  check_names(listing, folder);
  std::vector<std::string> names;
  for (const auto& [name, files] : listing.classes())
    if (!files.empty() || on_error == OnError::kFail) names.push_back(name);
  return names;
}

ImageSourcePtr image_folder(const std::string& folder, OnError on_error) {
  return std::make_shared<ImageFolder>(folder, on_error);
}

}  // namespace quench
