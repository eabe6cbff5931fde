// Mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019) with timm's parameters: one choice and one
// lambda a batch, lambda corrected to the area that CutMix really pastes, labels mixed with the
// same lambda over smoothed one-hot rows.
//
// timm mixes a batch with itself reversed; here sample 2i is mixed with 2i + 1. In a shuffled batch
// that is the same distribution, and it gives the same global batch on any number of ranks.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/random.h"
#include "data/image/image.h"
#include "data/image/options.h"

namespace quench {

struct MixPlan {
  double lambda = 1.0;  // the share of a sample's own picture and label; 1: nothing is mixed
  Box box;              // CutMix: where the partner is pasted; empty for Mixup
};

bool mixes(const ImageOptions& options);

MixPlan plan_mix(const ImageOptions& options, CounterRng& rng);

// `lambda` in the form of a CutMix rectangle on a size x size picture: sides sqrt(1 - lambda),
// random centre, clipped.
MixPlan plan_cutmix(double lambda, int size, CounterRng& rng);

// Mixes neighbours in [samples, 3, size, size]; samples is even.
void mix_pixels(std::span<float> pixels, int size, const MixPlan& plan);

// Rows [samples, classes] that sum to 1: smoothed one-hot labels, mixed as the pixels were.
std::vector<float> mixed_targets(std::span<const int64_t> labels, int64_t classes,
                                 double label_smoothing, const MixPlan& plan);

// Beta(alpha, alpha), alpha > 0.
double draw_beta(double alpha, CounterRng& rng);

}  // namespace quench
