#include <algorithm>
#include <optional>

#include "base/error.h"
#include "base/nearest.h"
#include "base/text.h"
#include "config/fields.h"

namespace quench::config {
namespace {

std::string quoted(const Json& scalar) {
  return scalar.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string what_is(const Node& node) {
  if (node.is_map()) return "a map";
  if (node.is_list()) return "a list";
  return truncate_to_width(quoted(node.scalar), 60);
}

[[noreturn]] void throw_at(const Place& place, const std::string& path,
                           const std::string& message) {
  fail_usage(place.to_string() + ": " + (path.empty() ? "" : path + ": ") + message);
}

std::string expected_scalar(Scalar type, const Constraint& constraint) {
  if (type == Scalar::kString && !constraint.expected.empty()) return constraint.expected;
  constexpr const char* kNames[] = {"true or false", "an integer", "a number", "a string",
                                    "a number of steps or 'N epochs',"};
  return kNames[static_cast<int>(type)] +
         (constraint.expected.empty() ? "" : " " + constraint.expected);
}

bool has_type(const Json& value, Scalar type) {
  switch (type) {
    case Scalar::kBool:
      return value.is_boolean();
    case Scalar::kInteger:
      return value.is_number_integer();
    case Scalar::kNumber:
      return value.is_number();
    case Scalar::kString:
      return value.is_string();
    case Scalar::kSteps:
      return value.is_number_integer() ||
             (value.is_string() && parse_epochs(value.get<std::string>()));
  }
  return false;
}

Json checked_scalar(const Node& node, const std::string& path, ValueType type,
                    const Constraint& constraint) {
  const Json& value = node.scalar;
  const auto number = [&] {
    const bool epochs = type.scalar == Scalar::kSteps && value.is_string();
    return epochs ? Json(*parse_epochs(value.get<std::string>())) : value;
  };
  if (has_type(value, type.scalar) && (!constraint.accepts || constraint.accepts(number())))
    return type.scalar == Scalar::kNumber ? Json(value.get<double>()) : value;

  std::string message = "expected " + expected_scalar(type.scalar, constraint) +
                        (type.optional && !type.list ? " or null" : "") + ", got " + what_is(node);
  if (value.is_string() && constraint.schema.contains("enum"))
    message += did_you_mean(value.get<std::string>(),
                            constraint.schema["enum"].get<std::vector<std::string>>());
  throw_at(node.place, path, message);
}

Json checked(const Node& node, const std::string& path, ValueType type,
             const Constraint& constraint) {
  if (type.optional && node.is_null()) return nullptr;
  if (!type.list) return checked_scalar(node, path, type, constraint);
  if (!node.is_list())
    throw_at(node.place, path,
             concat("expected a list", type.optional ? " or null" : "", ", each item ",
                    expected_scalar(type.scalar, constraint), "; got ", what_is(node)));
  Json list = Json::array();
  for (size_t i = 0; i < node.items.size(); ++i)
    list.push_back(checked_scalar(node.items[i], concat(path, ".", i), type, constraint));
  return list;
}

class Reader : public Fields {
 public:
  // Reads `node`, which stands at `path`; `type` is that of a variant, whose `type` key is read.
  static void run(const Node& node, const std::string& path, const std::string& type,
                  const Describe& describe) {
    if (!node.is_map()) throw_at(node.place, path, "expected a map of keys, got " + what_is(node));
    Reader reader(node, path, type);
    describe(reader);
    reader.finish();
  }

  void retired(const std::string& name, const Json& off, const std::string& instead) override {
    retired_.push_back(name);
    const Node* given = node_.find(name);
    if (given && given->scalar != off)
      throw_at(given->place, path_of(name), instead + ", got " + what_is(*given));
  }

  void require(bool ok, const std::string& key, const std::string& message) override {
    if (ok || failure_) return;
    const Node* at = &node_;
    for (const std::string& part : split_key(key)) {
      const Node* below = at->find(part);
      if (!below) break;
      at = below;
    }
    failure_ = Failure{at->place, path_of(key), message};
  }

 private:
  struct Failure {
    Place place;
    std::string path, message;
  };

  Reader(const Node& node, const std::string& path, const std::string& type)
      : node_(node), path_(path), type_(type) {
    if (!type.empty()) known_.push_back("type");
  }

  bool on_value(const std::string& name, const std::string&, ValueType type,
                const Constraint& constraint, Json& value) override {
    const Node* given = take(name);
    if (given) value = checked(*given, path_of(name), type, constraint);
    return given;
  }

  void on_section(const std::string& name, const std::string&, const Describe& describe) override {
    const Node* given = take(name);
    run(given ? *given : empty_map(), path_of(name), "", describe);
  }

  void on_list(const std::string& name, const std::string&, const Items& items) override {
    const Node* given = take(name);
    if (!given) return;
    if (!given->is_list())
      throw_at(given->place, path_of(name), "expected a list, got " + what_is(*given));
    items.resize(0);
    items.resize(given->items.size());
    for (size_t i = 0; i < given->items.size(); ++i) {
      const std::string path = concat(path_of(name), ".", i);
      if (items.choice)
        run_variant(given->items[i], path, items.choice(i));
      else
        run(given->items[i], path, "", [&](Fields& f) { items.describe(f, i); });
    }
  }

  void on_variant(const std::string& name, const std::string&, const Choice& choice) override {
    const Node* given = take(name);
    if ((!given || given->is_null()) && choice.type.empty()) return;
    if (given)
      run_variant(*given, path_of(name), choice);
    else
      run(empty_map(), path_of(name), choice.type, choice.describe);
  }

  static void run_variant(const Node& node, const std::string& path, const Choice& choice) {
    const std::string type = chosen_type(node, path, choice);
    if (type != choice.type) choice.make(type);
    run(node, path, type, choice.describe);
  }

  static std::string chosen_type(const Node& node, const std::string& path, const Choice& choice) {
    std::vector<std::string> types;
    for (const auto& [name, help] : choice.types) types.push_back(name);
    const Node* given = node.find("type");
    if (!given && (!node.is_map() || choice.type.empty()))
      throw_at(node.place, path,
               "expected a map with a 'type', one of " + listed(types) + "; got " + what_is(node));
    if (!given) return choice.type;
    return checked_scalar(*given, path + ".type", {Scalar::kString}, one_of(types));
  }

  // After describe(): the first key that it did not register, then the first failed require().
  void finish() const {
    for (const auto& [key, value] : node_.entries) {
      if (std::ranges::count(known_, key) + std::ranges::count(retired_, key) > 0) continue;
      throw_at(value.place, path_of(key),
               "unknown key" + (type_.empty() ? "" : " for type '" + type_ + "'") +
                   did_you_mean(key, known_) + " (known here: " + listed(known_) + ")");
    }
    if (failure_) throw_at(failure_->place, failure_->path, failure_->message);
  }

  const Node* take(const std::string& name) {
    known_.push_back(name);
    return node_.find(name);
  }

  // An absent section is read like an empty one, so that its own requirements are checked.
  Node empty_map() const { return {.kind = Node::Kind::kMap, .place = node_.place}; }

  std::string path_of(const std::string& name) const {
    return path_.empty() ? name : path_ + "." + name;
  }

  const Node& node_;
  const std::string path_;
  const std::string type_;
  std::vector<std::string> known_, retired_;
  std::optional<Failure> failure_;
};

}  // namespace

void read_with(const Node& node, const Fields::Describe& describe) {
  Reader::run(node, "", "", describe);
}

}  // namespace quench::config
