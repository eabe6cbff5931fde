#include "config/steps.h"

#include <charconv>
#include <cmath>

#include "base/error.h"

namespace quench::config {

Steps Steps::of_epochs(double epochs) {
  Steps steps;
  steps.epochs_ = epochs;
  return steps;
}

Steps::operator int64_t() const {
  if (epochs_ != 0) fail(dump(to_json()), ": the length of an epoch is not known");
  return count_;
}

void Steps::resolve(int64_t samples, int64_t samples_per_step) {
  if (epochs_ == 0) return;
  const double steps =
      epochs_ * static_cast<double>(samples) / static_cast<double>(samples_per_step);
  if (steps > 1e15) fail_usage(dump(to_json()), ": are more steps than can be counted");
  count_ = static_cast<int64_t>(std::ceil(steps * (1 - 1e-12)));  // 1.1 is a little more in binary
  epochs_ = 0;
}

Json Steps::to_json() const {
  if (epochs_ == 0) return count_;
  const bool whole = epochs_ == std::trunc(epochs_) && epochs_ < 1e15;
  return dump(whole ? Json(static_cast<int64_t>(epochs_)) : Json(epochs_)) +
         (epochs_ == 1 ? " epoch" : " epochs");
}

Steps Steps::from_json(const Json& value) {
  if (value.is_string()) return of_epochs(parse_epochs(value.get<std::string>()).value());
  return value.get<int64_t>();
}

std::optional<double> parse_epochs(const std::string& text) {
  double epochs = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, epochs);
  const std::string_view unit(rest, static_cast<size_t>(end - rest));
  const bool known = unit == " epochs" || unit == " epoch";
  if (error != std::errc() || !known || !(epochs > 0) || !std::isfinite(epochs))
    return std::nullopt;
  return epochs;
}

}  // namespace quench::config
