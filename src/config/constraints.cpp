#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "config/fields.h"

namespace quench::config {
namespace {

// A bound as one writes it: 0 and not 0.0.
Json bound(double value) {
  const bool whole = std::trunc(value) == value && std::abs(value) < 1e15;
  return whole ? Json(static_cast<int64_t>(value)) : Json(value);
}

}  // namespace

Constraint any() { return {}; }

Constraint at_least(double low) {
  return {">= " + dump(bound(low)), [low](const Json& x) { return x.get<double>() >= low; },
          Json{{"minimum", bound(low)}}};
}

Constraint greater_than(double low) {
  return {"> " + dump(bound(low)), [low](const Json& x) { return x.get<double>() > low; },
          Json{{"exclusiveMinimum", bound(low)}}};
}

Constraint between(double low, double high) {
  return {concat("from ", dump(bound(low)), " to ", dump(bound(high))),
          [low, high](const Json& x) { return x.get<double>() >= low && x.get<double>() <= high; },
          Json{{"minimum", bound(low)}, {"maximum", bound(high)}}};
}

Constraint one_of(std::vector<std::string> names) {
  std::string expected;
  for (const std::string& name : names) expected += (expected.empty() ? "one of " : ", ") + name;
  Json schema = {{"enum", names}};
  return {expected,
          [names = std::move(names)](const Json& x) {
            return std::find(names.begin(), names.end(), x.get<std::string>()) != names.end();
          },
          std::move(schema)};
}

}  // namespace quench::config
