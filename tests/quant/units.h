// The quantizer cases computed with the outlier-free-transformers reference: a committed part, and
// the whole folder where it is at hand.
#pragma once

#include <ATen/ATen.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

#include "base/json.h"
#include "io/atomic_file.h"
#include "io/safetensors.h"
#include "tests/support/golden.h"

namespace quench {

struct Units {
  Json json;
  std::map<std::string, at::Tensor> tensors;
};

inline at::Tensor on_device(const at::Tensor& x) { return x.to(testing::device()); }

// Its tensors lie on the device of the tests.
inline Units read_units(const std::filesystem::path& folder) {
  Units units{parse_json(read_file(folder / "units.json")),
              read_safetensors(folder / "units.safetensors")};
  for (auto& [name, values] : units.tensors) values = on_device(values);
  return units;
}

inline std::filesystem::path committed_units_folder() {
  return std::filesystem::path(QUENCH_TESTS_DIR) / "golden/units";
}

// May not exist.
inline std::filesystem::path all_units_folder() {
  const char* given = std::getenv("QUENCH_GOLDEN");
  return (given ? std::filesystem::path(given)
                : std::filesystem::path(QUENCH_TESTS_DIR) / "../../shared/golden") /
         "units";
}

}  // namespace quench
