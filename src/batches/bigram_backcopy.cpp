#include "batches/bigram_backcopy.h"

#include <ATen/ATen.h>

#include <filesystem>

#include "base/environment.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/text.h"
#include "data/bigram_text.h"
#include "io/mapped_file.h"

namespace quench {
namespace {

class BackcopySource : public BatchSource {
 public:
  BackcopySource(BigramBackcopy language, Subset subset, const BigramBackcopyData& data)
      : language_(std::move(language)),
        subset_(subset),
        length_(data.max_seq_length),
        samples_(subset == Subset::kTrain ? kEndless : data.validation_samples) {}

  int64_t samples() const override { return samples_; }
  std::optional<double> optimal_loss() const override { return language_.optimal_loss(length_); }

  Batch batch(const BatchRequest& request) const override {
    const auto size = static_cast<int64_t>(request.positions.size());
    Batch batch;
    batch.input_ids = at::empty({size, length_}, at::kLong);
    int64_t* ids = batch.input_ids.mutable_data_ptr<int64_t>();
    for (const int64_t position : request.positions) {
      CounterRng rng({kBackcopy, request.seed, static_cast<uint64_t>(subset_),
                      static_cast<uint64_t>(position)});
      language_.sample(rng, {ids, static_cast<size_t>(length_)});
      ids += length_;
    }
    batch.labels = batch.input_ids;
    return batch;
  }

 private:
  BigramBackcopy language_;
  Subset subset_;
  int64_t length_, samples_;
};

// "' ', 'e', '\n'"
std::string quoted(const BigramBackcopy& language, const std::vector<int64_t>& ids) {
  std::vector<std::string> names;
  for (const int64_t id : ids) {
    const std::string& character = language.characters()[static_cast<size_t>(id)];
    names.push_back(concat('\'', character == "\n" ? "\\n" : character, '\''));
  }
  return listed(names, 10);
}

// Calls f with the text.
template <class F>
auto with_text(const BigramBackcopyData& data, const F& f) {
  if (!data.text) return f(kBigramText);
  const MappedFile file(expand_variables(*data.text));
  return f(std::string_view(file.data(), file.size()));
}

BigramBackcopy language_of(const BigramBackcopyData& data) {
  try {
    return with_text(data,
                     [&](std::string_view text) { return BigramBackcopy(text, data.triggers); });
  } catch (const UsageError&) {
    throw;
  } catch (const Error& error) {
    fail_usage(data.text ? concat("data.text: ", *data.text) : "data.triggers", ": ", error.what());
  }
}

}  // namespace

void BigramBackcopyData::describe(config::Fields& f) {
  using namespace config;
  f("text", text,
    "UTF-8 file whose characters and pairs of characters the language has; default: two speeches "
    "by Shakespeare that are built in",
    any(), OnResume::kFree);
  f("triggers", triggers,
    "most frequent characters, behind which the character before them is repeated", at_least(0));
  f("max_seq_length", max_seq_length, "tokens of a sequence", at_least(2));
  f("validation_samples", validation_samples, "sequences of the validation set", at_least(1));
}

void BigramBackcopyData::validate() const {
  if (text && !std::filesystem::is_regular_file(expand_variables(*text)))
    fail_usage("data.text: file '", *text, "' does not exist");
  language_of(*this);
}

void BigramBackcopyData::check_task(const std::string& task) const {
  if (task != "clm")
    fail_usage(
        "data.type: bigram_backcopy is for causal language models (model.type opt): what it "
        "teaches is to predict the next token from those before, and the task here is ",
        task);
}

OpenedData BigramBackcopyData::open(Subset subset, const DataContext&) const {
  BigramBackcopy language = language_of(*this);
  if (subset == Subset::kTrain)
    log_info(concat("bigram_backcopy: ", language.characters().size(),
                    " characters and <s>, triggers ", quoted(language, language.triggers())));
  OpenedData opened;
  opened.identity = with_text(*this, content_hash);
  opened.max_seq_length = max_seq_length;
  opened.vocabulary_or_classes = language.vocab_size();
  opened.special_tokens = SpecialTokens{.bos = static_cast<int32_t>(language.begin_id())};
  opened.source = std::make_shared<BackcopySource>(std::move(language), subset, *this);
  return opened;
}

}  // namespace quench
