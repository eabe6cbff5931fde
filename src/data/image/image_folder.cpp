#include <algorithm>
#include <cctype>
#include <filesystem>
#include <iterator>

#include "base/error.h"
#include "base/log.h"
#include "data/corpus.h"
#include "data/image/decode.h"
#include "data/image/source.h"

namespace quench {
namespace {

namespace fs = std::filesystem;

bool is_image(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

std::vector<std::string> sorted_folders(const std::string& folder) {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(folder)) {
    if (entry.is_directory()) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

bool is_image(const fs::directory_entry& entry) {
  return entry.is_regular_file() && is_image(entry.path());
}

// All that is below a folder.
fs::recursive_directory_iterator below(const fs::path& folder) {
  return fs::recursive_directory_iterator(folder, fs::directory_options::follow_directory_symlink);
}

// Folder by folder, then by file name, as torchvision lists them.
std::vector<fs::path> sorted_images(const fs::path& folder) {
  std::vector<fs::path> files;
  for (const auto& entry : below(folder)) {
    if (is_image(entry)) files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end(), [](const fs::path& a, const fs::path& b) {
    const int order = a.parent_path().native().compare(b.parent_path().native());
    return order != 0 ? order < 0 : a.filename().native() < b.filename().native();
  });
  return files;
}

class ImageFolder : public ImageSource {
 public:
  ImageFolder(const std::string& folder, OnError on_error) {
    check(fs::is_directory(folder), folder, ": not a folder, expected one folder a class in it");
    names_ = image_classes(folder, on_error);
    check(!names_.empty(), folder,
          ": no class folders in it, expected one folder of images a class");
    warn_of_empty(folder);
    for (const std::string& name : names_) {
      const fs::path class_folder = fs::path(folder) / name;
      const std::vector<fs::path> files = sorted_images(class_folder);
      check(!files.empty(), class_folder.string(),
            ": this class has no images, expected .jpg, .jpeg or .png files");
      for (const fs::path& file : files) files_.push_back(file.string());
      ends_.push_back(static_cast<int64_t>(files_.size()));
    }
  }

  int64_t size() const override { return static_cast<int64_t>(files_.size()); }
  Image load(int64_t index) const override { return read_image(files_.at(index)); }
  int64_t label(int64_t index) const override {
    return std::upper_bound(ends_.begin(), ends_.end(), index) - ends_.begin();
  }
  const std::vector<std::string>& class_names() const override { return names_; }

 private:
  void warn_of_empty(const std::string& folder) const {
    std::vector<std::string> empty;
    std::ranges::set_difference(sorted_folders(folder), names_, std::back_inserter(empty));
    if (!empty.empty())
      log_warning(concat(folder, "/", empty[0], ": this class has no images; it is left out (",
                         empty.size(), " in all)"));
  }

  std::vector<std::string> names_;
  std::vector<std::string> files_;
  std::vector<int64_t> ends_;  // of each class in files_
};

}  // namespace

std::vector<std::string> image_classes(const std::string& folder, OnError on_error) {
  std::vector<std::string> names = sorted_folders(folder);
  for (const std::string& name : names)  // a checkpoint's JSON holds them
    check(find_invalid_utf8(name) == std::string::npos, folder, "/", name,
          ": the class's name is not UTF-8");
  if (on_error == OnError::kSkip)
    std::erase_if(names, [&](const std::string& name) {
      const auto files = below(fs::path(folder) / name);
      return std::none_of(begin(files), end(files),
                          [](const auto& file) { return is_image(file); });
    });
  return names;
}

ImageSourcePtr image_folder(const std::string& folder, OnError on_error) {
  return std::make_shared<ImageFolder>(folder, on_error);
}

}  // namespace quench
