// The penalties of penalties(), one file each.
#pragma once

#include <memory>

#include "penalties/penalty.h"

namespace quench {

std::shared_ptr<Penalty> make_activation_norm();
std::shared_ptr<Penalty> make_tweo();
std::shared_ptr<Penalty> make_kurtosis();
std::shared_ptr<Penalty> make_density(double weight);  // no entry of penalties()

}  // namespace quench
