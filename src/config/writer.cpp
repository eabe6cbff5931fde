#include "config/fields.h"

namespace quench::config {
namespace {

class Writer : public Fields {
 public:
  explicit Writer(bool fixed_only) : fixed_only_(fixed_only) {}
  static Json run(const Describe& describe, bool fixed_only) {
    Writer writer(fixed_only);
    describe(writer);
    return writer.out_;
  }

 private:
  bool leaves_out(OnResume on_resume) const override {
    return fixed_only_ && on_resume == OnResume::kFree;
  }

  bool on_value(const std::string& name, const std::string&, ValueType, const Constraint&,
                Json& value) override {
    out_[name] = value;
    return false;
  }

  void on_section(const std::string& name, const std::string&, const Describe& describe) override {
    out_[name] = run(describe, fixed_only_);
  }

  void on_list(const std::string& name, const std::string&, const Items& items) override {
    Json& list = out_[name] = Json::array();
    for (size_t i = 0; i < items.size; ++i)
      list.push_back(items.choice ? variant(items.choice(i))
                                  : run([&](Fields& f) { items.describe(f, i); }, fixed_only_));
  }

  void on_variant(const std::string& name, const std::string&, const Choice& choice) override {
    out_[name] = nullptr;
    if (!choice.type.empty()) out_[name] = variant(choice);
  }

  Json variant(const Choice& choice) const {
    Writer writer(fixed_only_);
    writer.out_["type"] = choice.type;
    choice.describe(writer);
    return writer.out_;
  }

  bool fixed_only_;
  Json out_ = Json::object();
};

void add_differences(const std::string& key, const Json& was, const Json& is,
                     std::vector<Difference>& found) {
  const bool sections = was.is_object() && is.is_object();
  if (!sections || was.value("type", Json()) != is.value("type", Json())) {
    const std::string type = sections ? ".type" : "";
    if (was != is)
      found.push_back({key + type, sections ? was.value("type", Json()) : was,
                       sections ? is.value("type", Json()) : is});
    return;
  }
  Json keys = was;
  keys.update(is);
  for (const auto& [name, unused] : keys.items())
    add_differences(key.empty() ? name : key + "." + name, was.value(name, Json()),
                    is.value(name, Json()), found);
}

}  // namespace

Json write_with(const Fields::Describe& describe) {
  return Writer::run(describe, /*fixed_only=*/false);
}

Json write_fixed_with(const Fields::Describe& describe) {
  return Writer::run(describe, /*fixed_only=*/true);
}

std::vector<Difference> differences(const Json& was, const Json& is) {
  std::vector<Difference> found;
  add_differences("", was, is, found);
  return found;
}

}  // namespace quench::config
