#include "data/image/options.h"

#include <algorithm>

#include "base/error.h"

namespace quench {

void check_options(const ImageOptions& o) {
  const auto expect = [](bool holds, const char* option, const char* expected) {
    if (!holds) throw UsageError(concat("images: ", option, ": expected ", expected));
  };
  const auto ordered = [](const std::vector<double>& range) {
    return range.size() == 2 && range[0] > 0 && range[0] <= range[1];
  };
  const auto share = [](double p) { return p >= 0 && p <= 1; };
  expect(o.image_size >= 1 && o.image_size <= 16384, "image_size", "1 to 16384 pixels");
  expect(o.mean.size() == 3, "mean", "three numbers");
  expect(std::all_of(o.mean.begin(), o.mean.end(), share), "mean", "numbers in [0, 1]");
  expect(o.std.size() == 3 && *std::min_element(o.std.begin(), o.std.end()) > 0, "std",
         "three numbers > 0");
  expect(o.crop_pct > 0.05 && o.crop_pct <= 1, "crop_pct", "a number in (0.05, 1]");
  const bool known = o.interpolation == "bicubic" || o.interpolation == "bilinear";
  expect(known, "interpolation", "bicubic or bilinear");
  const bool train_known = o.train_interpolation == "random" ||
                           o.train_interpolation == "bicubic" ||
                           o.train_interpolation == "bilinear";
  expect(train_known, "train_interpolation", "random, bicubic or bilinear");
  expect(ordered(o.crop_scale) && o.crop_scale[1] <= 1, "crop_scale",
         "two numbers, 0 < smallest <= largest <= 1");
  expect(ordered(o.crop_ratio), "crop_ratio", "two numbers, 0 < smallest <= largest");
  expect(share(o.flip_probability), "flip_probability", "a number in [0, 1]");
  expect(o.randaugment_ops >= 0, "randaugment_ops", "a number >= 0");
  expect(o.randaugment_magnitude >= 0 && o.randaugment_magnitude <= 10, "randaugment_magnitude",
         "a number in [0, 10]");
  expect(o.randaugment_std >= 0, "randaugment_std", "a number >= 0");
  expect(o.color_jitter >= 0, "color_jitter", "a number >= 0");
  expect(share(o.erase_probability), "erase_probability", "a number in [0, 1]");
  expect(o.mixup_alpha >= 0, "mixup_alpha", "a number >= 0");
  expect(o.cutmix_alpha >= 0, "cutmix_alpha", "a number >= 0");
  expect(share(o.label_smoothing), "label_smoothing", "a number in [0, 1]");
}

}  // namespace quench
