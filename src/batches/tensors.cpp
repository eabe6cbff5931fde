#include "batches/tensors.h"

#include <ATen/ATen.h>

#include <filesystem>

#include "base/environment.h"
#include "base/error.h"
#include "io/safetensors.h"

namespace quench {
namespace {

class TensorsSource : public BatchSource {
 public:
  explicit TensorsSource(const std::string& path) {
    std::map<std::string, at::Tensor> tensors = read_safetensors(path);
    const auto take = [&](const std::string& name, int64_t dim, at::ScalarType dtype) {
      const auto found = tensors.find(name);
      if (found == tensors.end()) return at::Tensor();
      at::Tensor x = found->second;
      tensors.erase(found);
      check(x.dim() == dim, path, ": ", name, ": expected ", dim, " dimensions, got shape ",
            x.sizes());
      const bool integers = at::isIntegralType(x.scalar_type(), /*includeBool=*/true);
      check(integers == (dtype != at::kFloat), path, ": ", name, ": expected dtype ", dtype,
            ", got ", x.scalar_type());
      return x.to(dtype);
    };
    all_.input_ids = take("input_ids", 2, at::kLong);
    all_.pixel_values = take("pixel_values", 4, at::kFloat);
    check(all_.input_ids.defined() != all_.pixel_values.defined(), path,
          ": expected either input_ids or pixel_values");
    all_.labels = take("labels", all_.input_ids.defined() ? 2 : 1, at::kLong);
    check(all_.labels.defined(), path, ": labels are missing");
    if (all_.input_ids.defined()) {
      all_.attention_mask = take("attention_mask", 2, at::kBool);
      all_.token_type_ids = take("token_type_ids", 2, at::kLong);
    }
    check(tensors.empty(), path, ": unexpected tensor '",
          tensors.empty() ? "" : tensors.begin()->first, "'");
    check_shapes(path);
    check_labels(path);
    largest_id_ = all_.labels.max().item<int64_t>();
    if (all_.input_ids.defined()) {
      largest_id_ = std::max(largest_id_, all_.input_ids.max().item<int64_t>());
      check(all_.input_ids.min().item<int64_t>() >= 0, path, ": input_ids: expected ids >= 0");
    }
    if (all_.attention_mask.defined() && all_.attention_mask.all().item<bool>())
      all_.attention_mask = at::Tensor();
  }

  int64_t samples() const override { return all_.size(); }
  int64_t largest_id() const override { return largest_id_; }
  int64_t image_size() const { return all_.pixel_values.defined() ? all_.pixel_values.size(2) : 0; }
  int64_t length() const { return all_.input_ids.defined() ? all_.input_ids.size(1) : 0; }

  Batch batch(const BatchRequest& request) const override {
    const at::Tensor index = at::empty({static_cast<int64_t>(request.samples.size())}, at::kLong);
    std::copy(request.samples.begin(), request.samples.end(), index.mutable_data_ptr<int64_t>());
    const auto pick = [&](const at::Tensor& x) {
      return x.defined() ? x.index_select(0, index) : x;
    };
    Batch batch{pick(all_.input_ids),
                pick(all_.attention_mask),
                pick(all_.token_type_ids),
                pick(all_.labels),
                at::Tensor(),
                pick(all_.pixel_values)};
    if (batch.input_ids.defined())
      batch.label_positions = (batch.labels.flatten() != -100).nonzero().squeeze(1);
    return batch;
  }

 private:
  void check_shapes(const std::string& path) const {
    check(all_.labels.numel() > 0, path, ": holds no sample");
    if (!all_.input_ids.defined()) {
      check(all_.labels.size(0) == all_.size(), path, ": labels: expected ", all_.size(), ", got ",
            all_.labels.size(0));
      return;
    }
    for (const auto& [name, x] : {std::pair{"labels", all_.labels},
                                  {"attention_mask", all_.attention_mask},
                                  {"token_type_ids", all_.token_type_ids}})
      check(!x.defined() || x.sizes() == all_.input_ids.sizes(), path, ": ", name,
            ": expected the shape of input_ids ", all_.input_ids.sizes(), ", got ",
            x.defined() ? x.sizes() : at::IntArrayRef());
  }

  void check_labels(const std::string& path) const {
    const bool text = all_.input_ids.defined();
    const at::Tensor& labels = all_.labels;
    const at::Tensor bad =
        labels.masked_select(text ? (labels < 0) & (labels != -100) : labels < 0);
    if (bad.numel() > 0)
      fail(path, ": labels: expected values >= 0", text ? ", or -100 where there is none" : "",
           ", got ", bad[0].item<int64_t>());
    check(labels.ne(-100).any().item<bool>(), path, ": labels: expected one that is not -100");
  }

  Batch all_;
  int64_t largest_id_ = -1;
};

}  // namespace

OpenedData open_tensors(const std::string& path) {
  const auto source = std::make_shared<TensorsSource>(path);
  OpenedData opened;
  opened.source = source;
  opened.max_seq_length = source->length();
  opened.image_size = source->image_size();
  return opened;
}

void TensorsData::describe(config::Fields& f) {
  f("train", train, "safetensors file with the training batches", config::any(),
    config::OnResume::kFree);
  f("validation", validation, "safetensors file with the validation batches", config::any(),
    config::OnResume::kFree);
}

void TensorsData::validate() const {
  for (const auto& [key, path] : {std::pair{"train", train}, {"validation", validation}})
    if (!path.empty() && !std::filesystem::exists(expand_variables(path)))
      fail_usage("data.", key, ": file '", path, "' does not exist");
}

OpenedData TensorsData::open(Subset subset, const DataContext&) const {
  const bool training = subset == Subset::kTrain;
  const std::string& path = training ? train : validation;
  if (path.empty())
    fail_usage("data.", training ? "train" : "validation",
               ": expected a safetensors file, got none");
  return open_tensors(expand_variables(path));
}

}  // namespace quench
