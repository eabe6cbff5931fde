// What the rest of quench must know of a kind of model. The model's own file fills it in, so that
// nothing else asks for a model's name.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace quench {

// How checkpoints spell the names of parameters (models/names.h).
struct Spellings {
  using Pairs = std::vector<std::pair<std::string_view, std::string_view>>;
  Pairs prefixes = {};  // how the names of a bare model begin -> what they lack in front
  Pairs renamed = {};   // part of a name -> ours; after the prefix was added
  Pairs tied = {};      // tensor -> the parameter that it repeats
  std::vector<std::string_view> unused = {};  // beginnings of names of what our model lacks
};

// Which figures the paper's code reports, from which of our taps (SPEC 9). A point of every layer
// is a tap without its "layers.N.".
struct PaperFigures {
  struct Watched {
    std::string module, tap;  // its name there, and ours
    bool kurtosis = true;     // counts in the average and the largest
  };
  using Points = std::vector<std::pair<std::string_view, std::string_view>>;

  std::vector<Watched> watched = {};
  // Figure -> the point whose largest value in any layer it is; no point: of all that is watched.
  Points max_inf_norms = {
      {"max_inf_norm", ""}, {"max_ffn_inf_norm", "ffn.output"}, {"max_layer_inf_norm", "output"}};
  Points max_kurtoses = {{"max_kurtosis_layers", "output"}};
  std::string_view headline = "output";  // the point of the one norm in the paper's tables
  // Points whose rows are tokens; elsewhere they are sequences (quirk 7 of SPEC 12).
  std::vector<std::string_view> token_rows = {};
};

struct ModelTraits {
  std::string task;         // what it is for: mlm | clm | classification
  std::string body_prefix;  // of every parameter but the head's, which encoders lack
  Spellings spellings = {};
  PaperFigures figures = {};
  // Of the context before and after its gate, the tap that the paper's code leaves unquantized
  // (quirk 6 of SPEC 12).
  std::string unquantized = "attention.context";
};

}  // namespace quench
