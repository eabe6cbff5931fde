// The normalizers of normalizers(), one file each.
#pragma once

#include <memory>

#include "attention/normalizer.h"

namespace quench {

std::shared_ptr<Normalizer> make_normalized_clipped();
std::shared_ptr<Normalizer> make_softmax1();
std::shared_ptr<Normalizer> make_sink();
std::shared_ptr<Normalizer> make_key_bias();
std::shared_ptr<Normalizer> make_softpick();
std::shared_ptr<Normalizer> make_sigmoid();
std::shared_ptr<Normalizer> make_relu();
std::shared_ptr<Normalizer> make_top_k();
std::shared_ptr<Normalizer> make_threshold();
std::shared_ptr<Normalizer> make_sparsemax();
std::shared_ptr<Normalizer> make_entmax15();

}  // namespace quench
