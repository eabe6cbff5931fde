// A number of optimizer steps in a config: 5000, or in passes over the training data, "20 epochs".
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "base/json.h"

namespace quench::config {

class Steps {
 public:
  Steps(int64_t count = 0) : count_(count) {}
  static Steps of_epochs(double epochs);

  bool known() const { return epochs_ == 0; }  // else given in epochs
  // Throws Error while it is given in epochs, whose length only the data tell.
  operator int64_t() const;

  // Epochs become steps, rounded up; a number of steps stays what it is. Throws UsageError for more
  // steps than can be counted.
  void resolve(int64_t samples, int64_t samples_per_step);

  Json to_json() const;
  static Steps from_json(const Json& value);  // one that to_json() makes

 private:
  int64_t count_ = 0;
  double epochs_ = 0;  // > 0: count_ is not known yet
};

// "20 epochs" -> 20; nullopt for any other text.
std::optional<double> parse_epochs(const std::string& text);

}  // namespace quench::config
