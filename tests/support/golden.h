// The golden values of the paper's own code: where they lie, and the models that they belong to.
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "batches/source.h"
#include "models/pretrained.h"

namespace quench::testing {

// The whole folder ($QUENCH_GOLDEN, or shared/golden beside the repository) where it is there, else
// the small part of it that is committed as tests/golden.
std::filesystem::path golden_folder();

// Names of the cases in a folder of it, in alphabetical order.
std::vector<std::string> golden_cases(const std::string& folder);

// Where the tests compute: $QUENCH_TEST_DEVICE, by default the CPU.
at::Device device();

// Of float32 tolerances: 1 on the CPU; another device sums in an order of its own, in kernels of
// its own.
double device_factor();

Json read_json(const std::filesystem::path& path);

// The `attention` section that says the same as the reference's flags.
Json attention_section(const Json& flags);

// A model with these weights, read through config.json and model.safetensors in a temporary folder.
Pretrained make_model(const Json& hugging_face, const Json& attention, int64_t max_seq_length,
                      const std::map<std::string, at::Tensor>& weights);

// A batch from tensors called `<prefix>input_ids` and so on.
Batch make_batch(const std::map<std::string, at::Tensor>& tensors, const std::string& prefix);

// A calm model of the golden folder (family "bert_s", ..., variant "vanilla", ...): what metrics/
// and quant/ were run on.
Pretrained calm_model(const std::string& family, const std::string& variant);

// The samples `<prefix>input_ids` ... of a safetensors file, in order.
BatchSourcePtr make_source(const std::filesystem::path& file, const std::string& prefix);

// max |a - b| in float64, of tensors on any devices.
double max_difference(const at::Tensor& a, const at::Tensor& b);

// A folder that is deleted with the object.
class TemporaryDirectory {
 public:
  TemporaryDirectory();
  ~TemporaryDirectory();
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace quench::testing
