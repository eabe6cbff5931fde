// How pictures become a model's input: timm's training recipe and its evaluation crop. What values
// can be, `describe` says where a config gives them (batches/images.cpp).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace quench {

struct ImageOptions {
  int64_t image_size = 224;
  std::vector<double> mean = {0.5, 0.5, 0.5};  // of values in [0, 1]
  std::vector<double> std = {0.5, 0.5, 0.5};

  // Evaluation: the shorter side becomes floor(image_size / crop_pct), then the central square.
  double crop_pct = 0.9;
  std::string interpolation = "bicubic";  // | bilinear

  // Training.
  std::string train_interpolation = "random";          // | bicubic | bilinear
  std::vector<double> crop_scale = {0.08, 1.0};        // share of the picture's area
  std::vector<double> crop_ratio = {0.75, 4.0 / 3.0};  // width / height
  double flip_probability = 0.5;
  int64_t randaugment_ops = 2;  // 0: off
  double randaugment_magnitude = 9.0;
  double randaugment_std = 0.5;
  double color_jitter = 0.4;  // as in timm, only where RandAugment is off
  double erase_probability = 0.0;
  double mixup_alpha = 0.8;   // 0: off; both on: each batch takes one of them, evenly
  double cutmix_alpha = 1.0;  // 0: off
  double label_smoothing = 0.1;
};

}  // namespace quench
