#include "config/fields.h"

namespace quench::config {
namespace {

Json value_schema(ValueType type, const Constraint& constraint) {
  constexpr const char* kNames[] = {"boolean", "integer", "number", "string", "integer"};
  Json schema = {{"type", kNames[static_cast<int>(type.scalar)]}};
  if (type.scalar == Scalar::kSteps) {
    schema["type"] = {"integer", "string"};
    schema["pattern"] = R"(^[0-9]+(\.[0-9]+)?(e[0-9]+)? epochs?$)";
  }
  schema.update(constraint.schema);
  if (type.list) schema = {{"type", "array"}, {"items", schema}};
  if (type.optional) {
    if (!schema["type"].is_array()) schema["type"] = Json::array({schema["type"]});
    schema["type"].push_back("null");
    if (schema.contains("enum")) schema["enum"].push_back(nullptr);
  }
  return schema;
}

class SchemaBuilder : public Fields {
 public:
  Json properties = Json::object();

  static Json object(const Describe& describe) {
    SchemaBuilder builder;
    describe(builder);
    return builder.object();
  }

  Json object() const {
    return {{"type", "object"}, {"properties", properties}, {"additionalProperties", false}};
  }

 private:
  bool on_value(const std::string& name, const std::string& help, ValueType type,
                const Constraint& constraint, Json& value) override {
    Json& property = describe_as(name, help);
    property.update(value_schema(type, constraint));
    property["default"] = value;
    return false;
  }

  void on_section(const std::string& name, const std::string& help,
                  const Describe& describe) override {
    describe_as(name, help).update(object(describe));
  }

  void on_list(const std::string& name, const std::string& help, const Items& items) override {
    Json defaults = Json::array();
    for (size_t i = 0; i < items.size; ++i)
      defaults.push_back(items.choice ? written(items.choice(i))
                                      : write_with([&](Fields& f) { items.describe(f, i); }));
    items.resize(items.size + 1);
    const Json item = items.choice ? Json{{"oneOf", alternatives(items.choice(items.size))}}
                                   : object([&](Fields& f) { items.describe(f, items.size); });
    items.resize(items.size);

    Json& property = describe_as(name, help);
    property["type"] = "array";
    property["items"] = item;
    property["default"] = defaults;
  }

  // The member's own alternative comes first, since make() replaces the member.
  void on_variant(const std::string& name, const std::string& help, const Choice& choice) override {
    Json all = alternatives(choice);
    if (choice.type.empty()) all.push_back({{"type", "null"}});
    Json& property = describe_as(name, help);
    property["oneOf"] = all;
    property["default"] = choice.type.empty() ? Json() : Json{{"type", choice.type}};
  }

  static Json written(const Choice& choice) {
    Json json = {{"type", choice.type}};
    json.update(write_with(choice.describe));
    return json;
  }

  static Json alternatives(const Choice& choice) {
    Json own;
    for (const auto& [type, type_help] : choice.types)
      if (type == choice.type) own = alternative(type, type_help, false, choice.describe);

    Json all = Json::array();
    for (const auto& [type, type_help] : choice.types) {
      if (type == choice.type) {
        all.push_back(own);
        continue;
      }
      choice.make(type);
      all.push_back(alternative(type, type_help, true, choice.describe));
    }
    return all;
  }

  static Json alternative(const std::string& type, const std::string& help, bool needs_type,
                          const Describe& describe) {
    SchemaBuilder builder;
    builder.properties["type"] = {{"const", type}};
    describe(builder);
    Json schema = {{"title", type}, {"description", help}};
    schema.update(builder.object());
    if (needs_type) schema["required"] = Json::array({"type"});
    return schema;
  }

  Json& describe_as(const std::string& name, const std::string& help) {
    return properties[name] = {{"description", help}};
  }
};

}  // namespace

Json schema_with(const Fields::Describe& describe) {
  SchemaBuilder builder;
  builder.properties["extends"] = {
      {"description", "the config file, relative to this one, that this one overlays"},
      {"type", "string"}};
  describe(builder);
  Json schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"}};
  schema.update(builder.object());
  return schema;
}

}  // namespace quench::config
