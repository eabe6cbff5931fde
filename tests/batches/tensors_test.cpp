// data.type: tensors.
#include <ATen/ATen.h>

#include "batches/tensors.h"
#include "io/safetensors.h"
#include "tests/io/temporary_folder.h"

namespace quench {
namespace {

using Tensors = std::map<std::string, at::Tensor>;

class TensorsFile : public TemporaryFolder {
 protected:
  BatchSourcePtr open(const Tensors& tensors) const {
    write_safetensors(file_, {tensors.begin(), tensors.end()});
    return open_tensors(file_).source;
  }
  // What is said of the good file with one tensor changed, behind the file's name.
  std::string complaint(Tensors tensors, const std::string& name, const at::Tensor& instead) const {
    tensors.erase(name);
    if (instead.defined()) tensors[name] = instead;
    const std::string message = error_of([&] { open(tensors); });
    return message.starts_with(file_ + ": ") ? message.substr(file_.size() + 2) : message;
  }

  const std::string file_ = (folder_ / "samples.safetensors").string();
  const Tensors text_ = {
      {"input_ids", at::arange(15).view({3, 5})},
      {"attention_mask", at::tensor({1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 1, 1, 1, 1, 0}).view({3, 5})},
      {"token_type_ids", at::ones({3, 5}, at::kLong)},
      {"labels",
       at::tensor({-100, 2, -100, -100, 4, 5, -100, -100, -100, -100, -100, -100, -100, 1, 0})
           .view({3, 5})}};
  const Tensors images_ = {
      {"pixel_values", at::arange(2 * 3 * 4 * 4, at::kFloat).view({2, 3, 4, 4})},
      {"labels", at::tensor({7, 1})}};
};

TEST_F(TensorsFile, ServesTheSamplesThatAreAskedFor) {
  const BatchSourcePtr source = open(text_);
  EXPECT_EQ(source->samples(), 3);
  const std::vector<int64_t> samples = {2, 0};
  const Batch batch = source->batch({samples, samples});
  const at::Tensor rows = at::tensor({int64_t{2}, int64_t{0}});
  EXPECT_EQ(batch.size(), 2);
  EXPECT_TRUE(at::equal(batch.input_ids, text_.at("input_ids").index_select(0, rows)));
  EXPECT_TRUE(at::equal(batch.attention_mask,
                        text_.at("attention_mask").index_select(0, rows).to(at::kBool)));
  EXPECT_TRUE(at::equal(batch.token_type_ids, text_.at("token_type_ids").index_select(0, rows)));
  EXPECT_TRUE(at::equal(batch.labels, text_.at("labels").index_select(0, rows)));
  EXPECT_TRUE(at::equal(batch.label_positions, at::tensor({3, 4, 6, 9}).to(at::kLong)));
}

TEST_F(TensorsFile, MaskAndTypesAreOptional) {
  const Batch batch = batch_in_order(
      *open({{"input_ids", text_.at("input_ids")}, {"labels", text_.at("labels")}}), 0, 3, 0);
  EXPECT_FALSE(batch.attention_mask.defined());
  EXPECT_FALSE(batch.token_type_ids.defined());
}

TEST_F(TensorsFile, AMaskThatHidesNothingIsNoMask) {
  Tensors tensors = text_;
  tensors["attention_mask"] = at::ones({3, 5}, at::kLong);
  EXPECT_FALSE(batch_in_order(*open(tensors), 0, 3, 0).attention_mask.defined());
}

TEST_F(TensorsFile, TakesAnyIntegerDtype) {
  Tensors tensors = text_;
  tensors["input_ids"] = tensors["input_ids"].to(at::kInt);
  tensors["attention_mask"] = tensors["attention_mask"].to(at::kBool);
  const Batch batch = batch_in_order(*open(tensors), 0, 3, 0);
  EXPECT_EQ(batch.input_ids.scalar_type(), at::kLong);
  EXPECT_TRUE(at::equal(batch.input_ids, text_.at("input_ids")));
  EXPECT_EQ(batch.attention_mask.scalar_type(), at::kBool);
}

TEST_F(TensorsFile, ServesImages) {
  const Batch batch = batch_in_order(*open(images_), 1, 1, 0);
  EXPECT_TRUE(at::equal(batch.pixel_values, images_.at("pixel_values").slice(0, 1)));
  EXPECT_TRUE(at::equal(batch.labels, at::tensor({int64_t{1}})));
}

TEST_F(TensorsFile, NamesWhatIsMissing) {
  EXPECT_EQ(complaint(text_, "labels", {}), "labels are missing");
  EXPECT_EQ(complaint(images_, "labels", {}), "labels are missing");
  EXPECT_EQ(complaint(text_, "input_ids", {}), "expected either input_ids or pixel_values");
  EXPECT_EQ(complaint(text_, "pixel_values", at::zeros({3, 1, 2, 2})),
            "expected either input_ids or pixel_values");
}

TEST_F(TensorsFile, NamesWhatItDoesNotKnow) {
  EXPECT_EQ(complaint(text_, "position_ids", at::zeros({3, 5}, at::kLong)),
            "unexpected tensor 'position_ids'");
  EXPECT_EQ(complaint(images_, "attention_mask", at::zeros({2, 5}, at::kLong)),
            "unexpected tensor 'attention_mask'");
}

TEST_F(TensorsFile, NamesAWrongShape) {
  EXPECT_EQ(complaint(text_, "input_ids", at::zeros({15}, at::kLong)),
            "input_ids: expected 2 dimensions, got shape [15]");
  EXPECT_EQ(complaint(text_, "labels", at::zeros({3}, at::kLong)),
            "labels: expected 2 dimensions, got shape [3]");
  for (const char* name : {"labels", "attention_mask", "token_type_ids"})
    EXPECT_EQ(complaint(text_, name, at::ones({3, 4}, at::kLong)),
              concat(name, ": expected the shape of input_ids [3, 5], got [3, 4]"));
  EXPECT_EQ(complaint(images_, "pixel_values", at::zeros({2, 4, 4})),
            "pixel_values: expected 4 dimensions, got shape [2, 4, 4]");
  EXPECT_EQ(complaint(images_, "labels", at::zeros({3}, at::kLong)),
            "labels: expected 2, one a picture, got 3");
}

TEST_F(TensorsFile, CutsNoIntegersOutOfFloats) {
  for (const char* name : {"input_ids", "labels", "token_type_ids"})
    EXPECT_EQ(complaint(text_, name, at::zeros({3, 5})),
              concat(name, ": expected integers, got dtype Float"));
  EXPECT_EQ(complaint(text_, "input_ids", at::zeros({3, 5}, at::kBool)),
            "input_ids: expected integers, got dtype Bool");
  EXPECT_EQ(complaint(text_, "attention_mask", at::ones({3, 5}, at::kDouble)),
            "attention_mask: expected bool or integers, got dtype Double");
  EXPECT_EQ(complaint(images_, "pixel_values", at::zeros({2, 3, 4, 4}, at::kByte)),
            "pixel_values: expected floating-point numbers, got dtype Byte");
  EXPECT_EQ(complaint(images_, "labels", at::tensor({7., 1.})),
            "labels: expected integers, got dtype Double");
}

TEST_F(TensorsFile, NamesAWrongValueAndItsPlace) {
  const auto with = [](const at::Tensor& x, std::vector<int64_t> place, double value) {
    at::Tensor changed = x.clone();
    at::Tensor element = changed;
    for (const int64_t i : place) element = element[i];
    element.fill_(value);
    return changed;
  };
  EXPECT_EQ(complaint(text_, "input_ids", with(text_.at("input_ids"), {2, 3}, -1)),
            "input_ids[2, 3]: expected 0 or more, got -1");
  EXPECT_EQ(complaint(text_, "token_type_ids", with(text_.at("token_type_ids"), {0, 4}, -2)),
            "token_type_ids[0, 4]: expected 0 or more, got -2");
  EXPECT_EQ(complaint(text_, "attention_mask", with(text_.at("attention_mask"), {1, 0}, 7)),
            "attention_mask[1, 0]: expected 0 or 1, got 7");
  EXPECT_EQ(complaint(text_, "labels", with(text_.at("labels"), {1, 0}, -1)),
            "labels[1, 0]: expected 0 or more, or -100 where there is none, got -1");
  EXPECT_EQ(complaint(images_, "labels", at::tensor({7, -100})),
            "labels[1]: expected 0 or more, got -100");
  EXPECT_EQ(complaint(text_, "labels", at::full({3, 5}, -100, at::kLong)),
            "labels: expected one that is not -100");
  for (const double value : {NAN, INFINITY, -INFINITY})
    EXPECT_EQ(
        complaint(images_, "pixel_values", with(images_.at("pixel_values"), {1, 2, 0, 3}, value)),
        concat("pixel_values[1, 2, 0, 3]: expected a finite number, as float32, got ", value));
}

// What a file may hold depends on the model.
TEST_F(TensorsFile, NamesWhatTheModelDoesNotTake) {
  const InputLimits bert{
      .model = "bert", .vocabulary_or_classes = 15, .token_types = 2, .positions = 5};
  const auto refused = [&](const Tensors& tensors, InputLimits limits) {
    const BatchSourcePtr source = open(tensors);
    const std::string message = error_of([&] { source->check_fits(limits); });
    return message.starts_with(file_ + ": ") ? message.substr(file_.size() + 2) : message;
  };
  EXPECT_EQ(refused(text_, bert), "no error");
  InputLimits less = bert;
  less.vocabulary_or_classes = 14;
  EXPECT_EQ(refused(text_, less),
            "input_ids[2, 4]: expected 0 to 13 (the model's vocab_size is 14), got 14");
  less = bert;
  less.token_types = 1;
  EXPECT_EQ(refused(text_, less),
            "token_type_ids[0, 0]: expected 0 to 0 (the model's type_vocab_size is 1), got 1");
  less = bert;
  less.positions = 4;
  EXPECT_EQ(refused(text_, less),
            "input_ids: expected at most the model's 4 positions (max_position_embeddings), got "
            "sequences of 5");
  Tensors labelled = text_;
  labelled["labels"] = at::full({3, 5}, 15, at::kLong);
  EXPECT_EQ(refused(labelled, bert),
            "labels[0, 0]: expected 0 to 14 (the model's vocab_size is 15), or -100 where there is "
            "none, got 15");
  const InputLimits vit{.model = "vit", .vocabulary_or_classes = 8, .channels = 3, .image_side = 4};
  EXPECT_EQ(refused(images_, vit), "no error");
  EXPECT_EQ(refused(images_, bert),
            "expected input_ids for a model of the type bert, got pixel_values");
  EXPECT_EQ(refused(text_, vit),
            "expected pixel_values for a model of the type vit, got input_ids");
  less = vit;
  less.vocabulary_or_classes = 7;
  EXPECT_EQ(refused(images_, less),
            "labels[0]: expected 0 to 6 (the model's num_labels is 7), got 7");
  less = vit;
  less.image_side = 5;
  EXPECT_EQ(refused(images_, less),
            "pixel_values: expected pictures of the model's [3, 5, 5], got [3, 4, 4]");
}

TEST_F(TensorsFile, TakesPixelsOfAnyPrecision) {
  for (const auto dtype : {at::kHalf, at::kBFloat16, at::kDouble}) {
    Tensors tensors = images_;
    tensors["pixel_values"] = tensors["pixel_values"].to(dtype);
    EXPECT_EQ(batch_in_order(*open(tensors), 0, 2, 0).pixel_values.scalar_type(), at::kFloat);
    EXPECT_EQ(read_tensors(file_).pixel_values.scalar_type(), dtype);
  }
}

TEST_F(TensorsFile, RefusesAFileWithoutSamples) {
  EXPECT_EQ(error_of([&] {
              open({{"input_ids", at::zeros({0, 5}, at::kLong)},
                    {"labels", at::zeros({0, 5}, at::kLong)}});
            }),
            file_ + ": holds no sample: the shape is [0, 5]");
  EXPECT_EQ(error_of([&] {
              open({{"input_ids", at::zeros({2, 0}, at::kLong)},
                    {"labels", at::zeros({2, 0}, at::kLong)}});
            }),
            file_ + ": holds no token or pixel: the shape is [2, 0]");
}

TEST_F(TensorsFile, AConfigNamesOneFileForEachSubset) {
  open(text_);
  TensorsData data;
  data.train = file_;
  EXPECT_EQ(data.open(Subset::kTrain, {}).max_seq_length, 5);
  EXPECT_EQ(error_of([&] { data.open(Subset::kValidation, {}); }),
            "data.validation: expected a safetensors file, got none");
  EXPECT_EQ(error_of([&] { data.validate(); }), "no error");
  data.validation = "no-such.safetensors";
  EXPECT_EQ(error_of([&] { data.validate(); }),
            "data.validation: file 'no-such.safetensors' does not exist");
}

}  // namespace
}  // namespace quench
