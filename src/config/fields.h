// Typed configs. A config section is a plain struct with one `describe(Fields&, Section&)`; that
// one registration parses the section, prints it resolved, and generates its JSON Schema.
//
//   struct ScheduleConfig { std::string shape = "linear"; int64_t warmup_steps = 0; };
//   void describe(config::Fields& f, ScheduleConfig& c) {
//     f("shape", c.shape, "shape of the decay", config::one_of({"linear", "cosine", "constant"}));
//     f("warmup_steps", c.warmup_steps, "steps of linear warm-up", config::at_least(0));
//   }
//
// A run that is resumed keeps the values that it began with, but for those that are registered as
// OnResume::kFree.
//
// A section whose keys depend on its `type` (attention.softmax, model, data, ...) is a
// `shared_ptr<Base>` with a Registry<Base>: adding an alternative is one line in that registry.
//
// A describe() also runs for printing and for the schema, there on the struct's defaults: it may
// not assume that anything was read. It registers the same keys whatever the values are.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "config/node.h"
#include "config/steps.h"
#include "config/yaml.h"

namespace quench::config {

// What a value, or each item of a list of values, must satisfy beyond its type. A null satisfies
// all.
struct Constraint {
  std::string expected;                      // follows the type's name in messages: "> 0"
  std::function<bool(const Json&)> accepts;  // empty: everything
  Json schema = Json::object();              // the JSON Schema keywords that say the same
};
Constraint any();
Constraint at_least(double low);              // x >= low
Constraint greater_than(double low);          // x > low
Constraint between(double low, double high);  // low <= x <= high
Constraint one_of(std::vector<std::string> names);

// The alternatives of a section that is chosen by its `type` key. `Base` has a virtual destructor,
// `virtual std::string type() const`, which is the alternative's name in the registry, and
// `virtual void describe(Fields&)`, which registers the alternative's own keys (without `type`).
template <class Base>
struct Registry {
  struct Entry {
    std::string type;
    std::string help;
    std::function<std::shared_ptr<Base>()> make;
  };
  std::vector<Entry> entries;
};

enum class Scalar { kBool, kInteger, kNumber, kString, kSteps };

// Whether a run that is resumed may have another value than the one it began with.
enum class OnResume { kFixed, kFree };

struct ValueType {
  Scalar scalar;
  bool list = false;
  bool optional = false;
};

class Fields {
 public:
  using Describe = std::function<void(Fields&)>;

  virtual ~Fields() = default;

  // A value: bool, int64_t, double, std::string, Steps, std::vector of these, or std::optional of
  // any of these (null in YAML). An absent key leaves the member as it is.
  template <class T>
  void operator()(const std::string& name, T& member, const std::string& help,
                  const Constraint& constraint = any(), OnResume on_resume = OnResume::kFixed);

  // A nested section with a free `describe(Fields&, Section&)` found by ADL. kFree: all of it.
  template <class Section>
  void section(const std::string& name, Section& member, const std::string& help,
               OnResume on_resume = OnResume::kFixed);

  // A list of sections, e.g. ptq.overrides. If given, it replaces the member's items.
  template <class Section>
  void list(const std::string& name, std::vector<Section>& member, const std::string& help);

  // A section chosen by `type`. The member's values are the defaults of the member's own type,
  // which is also the one that an absent `type` means; they are overwritten in place, so do not
  // share it. A null member means "not given" and stays null when the key is absent or null.
  template <class Base>
  void variant(const std::string& name, std::shared_ptr<Base>& member,
               const Registry<Base>& registry, const std::string& help);

  // A list of such sections, each with its `type`, e.g. train.penalties.
  template <class Base>
  void list(const std::string& name, std::vector<std::shared_ptr<Base>>& member,
            const Registry<Base>& registry, const std::string& help);

  // A key of earlier versions, which is neither written nor in the schema. Where it is read, it is
  // an error that says what to write `instead`, but with the value `off`, which meant nothing.
  virtual void retired(const std::string& /*name*/, const Json& /*off*/,
                       const std::string& /*instead*/) {}

  // A check across keys, at the end of a describe(): when reading, throws "PLACE: KEY: MESSAGE"
  // with the place of `key` (dotted if it lies in a section below) unless `ok`. Unknown keys of the
  // section are reported first, so `ok` must be safe to compute although an earlier check failed.
  virtual void require(bool /*ok*/, const std::string& /*key*/, const std::string& /*message*/) {}

 protected:
  virtual bool leaves_out(OnResume) const { return false; }

  // The member of a variant(), its base class erased.
  struct Choice {
    std::vector<std::pair<std::string, std::string>> types;  // name and help
    std::string type;                                        // of the member; "" if that is null
    std::function<void(const std::string&)> make;            // a fresh member of this type
    Describe describe;                                       // of the member, which is not null
  };
  // The list of a list(), its item type erased: items are sections or variants.
  struct Items {
    size_t size;
    std::function<void(size_t)> resize;
    std::function<void(Fields&, size_t)> describe;  // a section
    std::function<Choice(size_t)> choice;           // a variant; empty: items are sections
  };

  // Returns true if it changed `value`.
  virtual bool on_value(const std::string& name, const std::string& help, ValueType type,
                        const Constraint& constraint, Json& value) = 0;
  virtual void on_section(const std::string& name, const std::string& help,
                          const Describe& describe) = 0;
  virtual void on_list(const std::string& name, const std::string& help, const Items& items) = 0;
  virtual void on_variant(const std::string& name, const std::string& help,
                          const Choice& choice) = 0;

 private:
  template <class Base>
  static Choice choice_of(std::shared_ptr<Base>& member, const Registry<Base>& registry);
};

// What read(), write() and schema() do with any describe().
void read_with(const Node& node, const Fields::Describe& describe);
Json write_with(const Fields::Describe& describe);
Json write_fixed_with(const Fields::Describe& describe);
Json schema_with(const Fields::Describe& describe);

// Fills `out` from a parsed config; keys that it lacks keep the value that `out` has. Throws
// UsageError ("file:line: key.path: ...") at the first unknown key, wrong type or value out of
// range.
template <class Section>
void read(const Node& node, Section& out) {
  read_with(node, [&](Fields& f) { describe(f, out); });
}

// The resolved config: every key with its value, the `type` of a variant first.
template <class Section>
Json write(const Section& section) {
  return write_with([&](Fields& f) { describe(f, const_cast<Section&>(section)); });
}

// The same without what a resumed run may change.
template <class Section>
Json write_fixed(const Section& section) {
  return write_fixed_with([&](Fields& f) { describe(f, const_cast<Section&>(section)); });
}

// A key ("a.b.c") at which two written configs differ.
struct Difference {
  std::string key;
  Json was, is;
};
// Where the `type` of a section differs, that is the only difference in it.
std::vector<Difference> differences(const Json& was, const Json& is);

// JSON Schema (draft 2020-12) of a config file, for editors.
template <class Section>
Json schema() {
  Section defaults;
  return schema_with([&](Fields& f) { describe(f, defaults); });
}

namespace internal {

template <class T>
struct TypeOf;  // not defined: no type of a config value
template <>
struct TypeOf<bool> {
  static constexpr ValueType value{Scalar::kBool};
};
template <>
struct TypeOf<int64_t> {
  static constexpr ValueType value{Scalar::kInteger};
};
template <>
struct TypeOf<double> {
  static constexpr ValueType value{Scalar::kNumber};
};
template <>
struct TypeOf<std::string> {
  static constexpr ValueType value{Scalar::kString};
};
template <>
struct TypeOf<Steps> {
  static constexpr ValueType value{Scalar::kSteps};
};
template <class T>
struct TypeOf<std::vector<T>> {
  static_assert(!TypeOf<T>::value.list && !TypeOf<T>::value.optional, "a list holds plain values");
  static constexpr ValueType value{TypeOf<T>::value.scalar, true};
};
template <class T>
struct TypeOf<std::optional<T>> {
  static constexpr ValueType value{TypeOf<T>::value.scalar, TypeOf<T>::value.list, true};
};

template <class T>
Json to_json(const T& value) {
  return value;
}
inline Json to_json(const Steps& value) { return value.to_json(); }
template <class T>
Json to_json(const std::optional<T>& value) {
  return value ? to_json(*value) : Json();
}

template <class T>
void from_json(const Json& json, T& value) {
  value = json.get<T>();
}
inline void from_json(const Json& json, Steps& value) { value = Steps::from_json(json); }
template <class T>
void from_json(const Json& json, std::optional<T>& value) {
  value.reset();
  if (!json.is_null()) from_json(json, value.emplace());
}

}  // namespace internal

template <class T>
void Fields::operator()(const std::string& name, T& member, const std::string& help,
                        const Constraint& constraint, OnResume on_resume) {
  if (leaves_out(on_resume)) return;
  Json value = internal::to_json(member);
  if (on_value(name, help, internal::TypeOf<T>::value, constraint, value))
    internal::from_json(value, member);
}

template <class Section>
void Fields::section(const std::string& name, Section& member, const std::string& help,
                     OnResume on_resume) {
  if (leaves_out(on_resume)) return;
  on_section(name, help, [&](Fields& f) { describe(f, member); });
}

template <class Section>
void Fields::list(const std::string& name, std::vector<Section>& member, const std::string& help) {
  on_list(name, help,
          {.size = member.size(),
           .resize = [&](size_t size) { member.resize(size); },
           .describe = [&](Fields& f, size_t i) { describe(f, member[i]); },
           .choice = {}});
}

template <class Base>
void Fields::list(const std::string& name, std::vector<std::shared_ptr<Base>>& member,
                  const Registry<Base>& registry, const std::string& help) {
  on_list(name, help,
          {.size = member.size(),
           .resize = [&](size_t size) { member.resize(size); },
           .describe = {},
           .choice = [&](size_t i) { return choice_of(member[i], registry); }});
}

template <class Base>
void Fields::variant(const std::string& name, std::shared_ptr<Base>& member,
                     const Registry<Base>& registry, const std::string& help) {
  on_variant(name, help, choice_of(member, registry));
}

template <class Base>
Fields::Choice Fields::choice_of(std::shared_ptr<Base>& member, const Registry<Base>& registry) {
  Choice choice;
  for (const auto& entry : registry.entries) choice.types.emplace_back(entry.type, entry.help);
  if (member) choice.type = member->type();
  choice.make = [&](const std::string& type) {
    for (const auto& entry : registry.entries)
      if (entry.type == type) member = entry.make();
  };
  choice.describe = [&](Fields& f) { member->describe(f); };
  return choice;
}

}  // namespace quench::config
