#include "config/fields.h"

namespace quench::config {
namespace {

class Writer : public Fields {
 public:
  Json out = Json::object();

 private:
  bool on_value(const std::string& name, const std::string&, ValueType, const Constraint&,
                Json& value) override {
    out[name] = value;
    return false;
  }

  void on_section(const std::string& name, const std::string&, const Describe& describe) override {
    out[name] = write_with(describe);
  }

  void on_list(const std::string& name, const std::string&, const Items& items) override {
    Json& list = out[name] = Json::array();
    for (size_t i = 0; i < items.size; ++i)
      list.push_back(write_with([&](Fields& f) { items.describe(f, i); }));
  }

  void on_variant(const std::string& name, const std::string&, const Choice& choice) override {
    Json& section = out[name] = nullptr;
    if (choice.type.empty()) return;
    Writer writer;
    writer.out["type"] = choice.type;
    choice.describe(writer);
    section = writer.out;
  }
};

}  // namespace

Json write_with(const Fields::Describe& describe) {
  Writer writer;
  describe(writer);
  return writer.out;
}

}  // namespace quench::config
