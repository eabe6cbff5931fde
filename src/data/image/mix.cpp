#include "data/image/mix.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"

namespace quench {
namespace {

// The logarithm of a Gamma(shape, 1) draw (Marsaglia and Tsang 2000). Shapes below one are drawn as
// Gamma(shape + 1) * U^(1 / shape), which underflows unless it stays a logarithm.
double draw_log_gamma(double shape, CounterRng& rng) {
  if (shape < 1) {
    const double boost = std::log(1.0 - rng.uniform()) / shape;
    return draw_log_gamma(shape + 1, rng) + boost;
  }
  const double d = shape - 1.0 / 3.0;
  const double c = 1.0 / std::sqrt(9.0 * d);
  for (;;) {
    const double x = rng.normal();
    const double v = std::pow(1.0 + c * x, 3);
    const double u = 1.0 - rng.uniform();
    if (v > 0 && std::log(u) < 0.5 * x * x + d - d * v + d * std::log(v)) return std::log(d * v);
  }
}

void swap_boxes(float* first, float* second, int size, const Box& box) {
  for (int c = 0; c < 3; ++c) {
    for (int y = box.top; y < box.top + box.height; ++y) {
      const size_t at = (static_cast<size_t>(c) * size + y) * size + box.left;
      std::swap_ranges(first + at, first + at + box.width, second + at);
    }
  }
}

}  // namespace

double draw_beta(double alpha, CounterRng& rng) {
  const double first = draw_log_gamma(alpha, rng);
  const double second = draw_log_gamma(alpha, rng);
  return 1.0 / (1.0 + std::exp(second - first));
}

bool mixes(const ImageOptions& options) {
  return options.mixup_alpha > 0 || options.cutmix_alpha > 0;
}

MixPlan plan_mix(const ImageOptions& options, CounterRng& rng) {
  if (!mixes(options)) return {};
  const bool either = options.mixup_alpha > 0 && options.cutmix_alpha > 0;
  const bool cutmix = either ? rng.bernoulli(0.5) : options.cutmix_alpha > 0;
  const double lambda = draw_beta(cutmix ? options.cutmix_alpha : options.mixup_alpha, rng);
  if (!cutmix) return {lambda, {}};
  return plan_cutmix(lambda, static_cast<int>(options.image_size), rng);
}

MixPlan plan_cutmix(double lambda, int size, CounterRng& rng) {
  const int cut = static_cast<int>(size * std::sqrt(1.0 - lambda));
  const auto draw_side = [&] {
    const int center = static_cast<int>(rng.below(size));
    const int low = std::max(center - cut / 2, 0);
    return std::pair{low, std::min(center + (cut + 1) / 2, size) - low};
  };
  const auto [top, height] = draw_side();
  const auto [left, width] = draw_side();
  const double area = static_cast<double>(width) * height;
  return {1.0 - area / (static_cast<double>(size) * size), {left, top, width, height}};
}

void mix_pixels(std::span<float> pixels, int size, const MixPlan& plan) {
  if (plan.lambda == 1.0) return;
  const size_t sample = size_t{3} * size * size;
  check(pixels.size() % (2 * sample) == 0,
        "mixup and cutmix pair neighbours, so a batch needs an even number of images");
  const auto own = static_cast<float>(plan.lambda);
  const auto other = static_cast<float>(1.0 - plan.lambda);
  for (size_t at = 0; at < pixels.size(); at += 2 * sample) {
    float *first = pixels.data() + at, *second = first + sample;
    if (plan.box.width > 0) {
      swap_boxes(first, second, size, plan.box);
      continue;
    }
    for (size_t i = 0; i < sample; ++i) {
      const float a = first[i], b = second[i];
      first[i] = a * own + b * other;
      second[i] = b * own + a * other;
    }
  }
}

std::vector<float> mixed_targets(std::span<const int64_t> labels, int64_t classes,
                                 double label_smoothing, const MixPlan& plan) {
  const double off = label_smoothing / static_cast<double>(classes);
  std::vector<float> targets(labels.size() * static_cast<size_t>(classes), static_cast<float>(off));
  for (size_t i = 0; i < labels.size(); ++i) {
    float* row = targets.data() + i * static_cast<size_t>(classes);
    row[labels[i]] += static_cast<float>((1.0 - label_smoothing) * plan.lambda);
    if (plan.lambda == 1.0) continue;
    row[labels[i ^ 1]] += static_cast<float>((1.0 - label_smoothing) * (1.0 - plan.lambda));
  }
  return targets;
}

}  // namespace quench
