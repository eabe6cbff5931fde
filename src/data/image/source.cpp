#include "data/image/source.h"

#include <utility>

#include "base/error.h"

namespace quench {
namespace {

class HeldOut : public ImageSource {
 public:
  HeldOut(ImageSourcePtr source, int64_t every, Subset subset)
      : source_(std::move(source)), every_(every), subset_(subset) {
    const int64_t validation = (source_->size() + every - 1) / every;
    size_ = subset == Subset::kValidation ? validation : source_->size() - validation;
  }

  int64_t size() const override { return size_; }
  Image load(int64_t index) const override { return source_->load(origin(index)); }
  int64_t label(int64_t index) const override { return source_->label(origin(index)); }
  const std::vector<std::string>& class_names() const override { return source_->class_names(); }
  std::string identity() const override {
    return concat(source_->identity(), subset_ == Subset::kTrain ? " but for" : " of", " each ",
                  every_, "th");
  }

 private:
  // 0, every, 2 every, ... are held out.
  int64_t origin(int64_t index) const {
    return subset_ == Subset::kValidation ? index * every_ : index + index / (every_ - 1) + 1;
  }

  ImageSourcePtr source_;
  int64_t every_;
  Subset subset_;
  int64_t size_;
};

}  // namespace

ImageSourcePtr hold_out(ImageSourcePtr source, int64_t every, Subset subset) {
  check(every >= 2 && source->size() >= 2, "cannot hold out every ", every, "-th of ",
        source->size(), " images: expected at least every 2nd of at least 2");
  return std::make_shared<HeldOut>(std::move(source), every, subset);
}

}  // namespace quench
