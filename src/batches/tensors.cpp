#include "batches/tensors.h"

#include <ATen/ATen.h>

#include <filesystem>

#include "base/environment.h"
#include "base/error.h"
#include "base/hash.h"
#include "io/mapped_file.h"
#include "io/safetensors.h"

namespace quench {
namespace {

// "[2, 5]": where the first true of a bool tensor is.
std::string first_place(const at::Tensor& found) {
  const at::Tensor place = found.nonzero()[0];
  std::string text;
  for (int64_t i = 0; i < place.numel(); ++i)
    text += concat(text.empty() ? "[" : ", ", place[i].item<int64_t>());
  return text + "]";
}

std::string first_value(const at::Tensor& x, const at::Tensor& found) {
  const at::Scalar value = x.masked_select(found)[0].item();
  return value.isFloatingPoint() ? concat(value.toDouble()) : concat(value.toLong());
}

// "labels[2, 5]: expected ..., got 7", of the first element at which `bad` holds; empty if none.
std::string complaint(const std::string& name, const at::Tensor& x, const at::Tensor& bad,
                      const std::string& expected) {
  if (!bad.any().item<bool>()) return "";
  return concat(name, first_place(bad), ": expected ", expected, ", got ", first_value(x, bad));
}

bool is_integer(at::ScalarType type) { return at::isIntegralType(type, /*includeBool=*/false); }
bool is_mask(at::ScalarType type) { return at::isIntegralType(type, /*includeBool=*/true); }

// Takes the tensors of a batch out of what a file holds.
class TensorsFile {
 public:
  explicit TensorsFile(const std::string& path) : path_(path), tensors_(read_safetensors(path)) {}

  at::Tensor take_integers(const std::string& name, int64_t dims) {
    const at::Tensor x = take(name, dims, is_integer, "integers");
    return x.defined() ? x.to(at::kLong) : x;
  }
  at::Tensor take_mask(const std::string& name, int64_t dims) {
    const at::Tensor x = take(name, dims, is_mask, "bool or integers");
    if (!x.defined() || x.scalar_type() == at::kBool) return x;
    refuse(complaint(name, x, (x != 0) & (x != 1), "0 or 1"));
    return x.to(at::kBool);
  }
  at::Tensor take_numbers(const std::string& name, int64_t dims) {
    const at::Tensor x = take(name, dims, at::isFloatingType, "floating-point numbers");
    if (x.defined())
      refuse(complaint(name, x, at::isfinite(x.to(at::kFloat)).logical_not(),
                       "a finite number, as float32"));
    return x;
  }
  void finish() const {
    check(tensors_.empty(), path_, ": unexpected tensor '",
          tensors_.empty() ? "" : tensors_.begin()->first, "'");
  }

 private:
  template <class IsKind>
  at::Tensor take(const std::string& name, int64_t dims, IsKind is_kind, const char* kind) {
    const auto found = tensors_.find(name);
    if (found == tensors_.end()) return {};
    const at::Tensor x = found->second;
    tensors_.erase(found);
    check(is_kind(x.scalar_type()), path_, ": ", name, ": expected ", kind, ", got dtype ",
          x.scalar_type());
    check(x.dim() == dims, path_, ": ", name, ": expected ", dims, " dimensions, got shape ",
          x.sizes());
    return x;
  }
  void refuse(const std::string& complaint) const {
    check(complaint.empty(), path_, ": ", complaint);
  }

  std::string path_;
  std::map<std::string, at::Tensor> tensors_;
};

void check_shapes(const Batch& batch, const std::string& path) {
  const at::Tensor& main = batch.input_ids.defined() ? batch.input_ids : batch.pixel_values;
  check(main.numel() > 0, path, ": holds no ", main.size(0) == 0 ? "sample" : "token or pixel",
        ": the shape is ", main.sizes());
  if (!batch.input_ids.defined()) {
    check(!batch.labels.defined() || batch.labels.size(0) == batch.size(), path,
          ": labels: expected ", batch.size(), ", one a picture, got ", batch.labels.size(0));
    return;
  }
  for (const auto& [name, x] : {std::pair{"labels", batch.labels},
                                {"attention_mask", batch.attention_mask},
                                {"token_type_ids", batch.token_type_ids}})
    check(!x.defined() || x.sizes() == batch.input_ids.sizes(), path, ": ", name,
          ": expected the shape of input_ids ", batch.input_ids.sizes(), ", got ",
          x.defined() ? x.sizes() : at::IntArrayRef());
}

// Of ids, types and labels: below 0, or from `end` on where that is known (> 0).
at::Tensor outside(const at::Tensor& x, int64_t end) {
  return end > 0 ? (x < 0) | (x >= end) : x < 0;
}

std::string range(int64_t end, const std::string& limit) {
  return end > 0 ? concat("0 to ", end - 1, " (", limit, ")") : std::string("0 or more");
}

// What is wrong with the values, as far as the limits are known; empty: nothing.
std::string wrong_value(const Batch& batch, const InputLimits& limits) {
  const bool text = batch.input_ids.defined();
  const int64_t ids = limits.vocabulary_or_classes, types = limits.token_types;
  const std::string of_ids =
      concat("the model's ", text ? "vocab_size" : "num_labels", " is ", ids);
  std::string wrong;
  if (text)
    wrong =
        complaint("input_ids", batch.input_ids, outside(batch.input_ids, ids), range(ids, of_ids));
  if (wrong.empty() && batch.token_type_ids.defined())
    wrong = complaint("token_type_ids", batch.token_type_ids, outside(batch.token_type_ids, types),
                      range(types, concat("the model's type_vocab_size is ", types)));
  if (wrong.empty() && batch.labels.defined()) {
    const at::Tensor bad = outside(batch.labels, ids);
    wrong = complaint("labels", batch.labels, text ? bad & (batch.labels != -100) : bad,
                      range(ids, of_ids) + (text ? ", or -100 where there is none" : ""));
  }
  return wrong;
}

class TensorsSource : public BatchSource {
 public:
  explicit TensorsSource(const std::string& path) : path_(path), all_(read_tensors(path)) {
    check(all_.labels.defined(), path, ": labels are missing");
    check(all_.labels.ne(-100).any().item<bool>(), path, ": labels: expected one that is not -100");
    if (all_.pixel_values.defined()) all_.pixel_values = all_.pixel_values.to(at::kFloat);
    if (all_.attention_mask.defined() && all_.attention_mask.all().item<bool>())
      all_.attention_mask = at::Tensor();
  }

  int64_t samples() const override { return all_.size(); }
  void check_fits(const InputLimits& limits) const override { check_tensors(all_, limits, path_); }
  int64_t image_size() const { return all_.pixel_values.defined() ? all_.pixel_values.size(2) : 0; }
  int64_t length() const { return all_.input_ids.defined() ? all_.input_ids.size(1) : 0; }

  Batch batch(const BatchRequest& request) const override {
    const at::Tensor index = at::empty({static_cast<int64_t>(request.samples.size())}, at::kLong);
    std::copy(request.samples.begin(), request.samples.end(), index.mutable_data_ptr<int64_t>());
    Batch batch = all_.mapped([&](const at::Tensor& x) { return x.index_select(0, index); });
    if (batch.input_ids.defined())
      batch.label_positions = (batch.labels.flatten() != -100).nonzero().squeeze(1);
    return batch;
  }

 private:
  std::string path_;
  Batch all_;
};

}  // namespace

Batch read_tensors(const std::string& path) {
  TensorsFile file(path);
  Batch batch;
  batch.input_ids = file.take_integers("input_ids", 2);
  batch.pixel_values = file.take_numbers("pixel_values", 4);
  check(batch.input_ids.defined() != batch.pixel_values.defined(), path,
        ": expected either input_ids or pixel_values");
  batch.labels = file.take_integers("labels", batch.input_ids.defined() ? 2 : 1);
  if (batch.input_ids.defined()) {
    batch.attention_mask = file.take_mask("attention_mask", 2);
    batch.token_type_ids = file.take_integers("token_type_ids", 2);
  }
  file.finish();
  check_shapes(batch, path);
  const std::string wrong = wrong_value(batch, {});
  check(wrong.empty(), path, ": ", wrong);
  return batch;
}

void check_tensors(const Batch& batch, const InputLimits& limits, const std::string& path) {
  const bool images = batch.pixel_values.defined();
  if (images != (limits.image_side > 0))
    fail(path, ": expected ", images ? "input_ids" : "pixel_values", " for a model of the type ",
         limits.model, ", got ", images ? "pixel_values" : "input_ids");
  const std::vector<int64_t> picture = {limits.channels, limits.image_side, limits.image_side};
  if (images && batch.pixel_values.sizes().slice(1) != at::IntArrayRef(picture))
    fail(path, ": pixel_values: expected pictures of the model's ", at::IntArrayRef(picture),
         ", got ", batch.pixel_values.sizes().slice(1));
  if (!images && batch.input_ids.size(1) > limits.positions)
    fail(path, ": input_ids: expected at most the model's ", limits.positions,
         " positions (max_position_embeddings), got sequences of ", batch.input_ids.size(1));
  const std::string wrong = wrong_value(batch, limits);
  if (!wrong.empty()) fail(path, ": ", wrong);
}

OpenedData open_tensors(const std::string& path) {
  const auto source = std::make_shared<TensorsSource>(path);
  OpenedData opened;
  opened.source = source;
  opened.max_seq_length = source->length();
  opened.image_size = source->image_size();
  const MappedFile file(path);
  opened.identity = content_hash({file.data(), file.size()});
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
