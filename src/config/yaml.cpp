#include "config/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <map>
#include <optional>
#include <sstream>

#include "base/error.h"

namespace quench::config {
namespace {

constexpr int kMaxDepth = 100;  // also ends an alias that contains itself
constexpr int64_t kMaxBytes = 64 << 20;
constexpr int64_t kMaxValues =
    100'000;  // aliases may repeat aliases: a few lines, billions of values

bool is_utf8(const std::string& text) {
  try {
    dump(Json(text));
    return true;
  } catch (const Json::type_error&) {
    return false;
  }
}

class Converter {
 public:
  explicit Converter(const Place& start) : start_(start) {}

  Place place(const YAML::Mark& mark) const {
    return start_.line == 0 || mark.is_null() ? start_ : Place{start_.file, mark.line + 1};
  }

  Node convert(const YAML::Node& yaml, const Place& at, int depth = 0) {
    if (++values_ > kMaxValues)
      throw error(at, concat("more than ", kMaxValues, " values, with those that aliases repeat"));
    if (yaml.IsScalar()) bytes_ += static_cast<int64_t>(yaml.Scalar().size());
    if (bytes_ > kMaxBytes)
      throw error(at, concat("more than ", kMaxBytes >> 20, " MB, with what aliases repeat"));
    if (depth > kMaxDepth) throw error(at, concat("nested deeper than ", kMaxDepth, " levels"));
    Node node;
    node.place = at;
    if (yaml.IsScalar()) {
      if (!is_utf8(yaml.Scalar())) throw error(at, "expected text in UTF-8");
      const bool plain = yaml.Tag() == "?";  // yaml-cpp's mark of a scalar without quotes and tag
      node.scalar = plain ? resolve_scalar(yaml.Scalar()) : Json(yaml.Scalar());
    } else if (yaml.IsSequence()) {
      node.kind = Node::Kind::kList;
      for (const auto& item : yaml)
        node.items.push_back(convert(item, place(item.Mark()), depth + 1));
    } else if (yaml.IsMap()) {
      node.kind = Node::Kind::kMap;
      std::map<std::string, Place> known;
      for (const auto& entry : yaml) add_entry(node, known, entry.first, entry.second, depth);
    }
    return node;
  }

  static UsageError error(const Place& at, const std::string& message) {
    return UsageError(at.to_string() + ": " + message);
  }

 private:
  // `known`: where the keys that `map` has were given.
  void add_entry(Node& map, std::map<std::string, Place>& known, const YAML::Node& key,
                 const YAML::Node& value, int depth) {
    const Place at = place(key.Mark());
    if (!key.IsScalar() || !is_utf8(key.Scalar())) throw error(at, "a key must be a word in UTF-8");
    bytes_ += static_cast<int64_t>(key.Scalar().size());  // an alias may be a key, too
    const auto [first, is_new] = known.emplace(key.Scalar(), at);
    if (!is_new)
      throw error(at, concat("duplicate key '", key.Scalar(), "', first given at ",
                             first->second.to_string()));
    map.entries.emplace_back(key.Scalar(), convert(value, at, depth + 1));
  }

  Place start_;
  int64_t values_ = 0, bytes_ = 0;
};

// Where documents begin. The parser goes through each, and does not move on from a token that can
// begin none (","): then the next one begins at the same place, again and again.
class Documents : public YAML::EventHandler {
 public:
  std::vector<YAML::Mark> starts;

  void OnDocumentStart(const YAML::Mark& mark) override { starts.push_back(mark); }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}
};

std::optional<Json> resolve_number(std::string text) {
  if (text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'o')) {
    int64_t integer = 0;
    const auto [end, status] = std::from_chars(text.data() + 2, text.data() + text.size(), integer,
                                               text[1] == 'x' ? 16 : 8);
    if (text[2] == '-' || status != std::errc() || *end != '\0') return std::nullopt;
    return integer;
  }
  if (text.find_first_not_of("0123456789.eE+-") != std::string::npos) return std::nullopt;
  if (text[0] == '+') {
    text.erase(0, 1);
    if (text[0] == '-') return std::nullopt;
  }
  const char* const last = text.data() + text.size();
  int64_t integer = 0;
  if (const auto [end, status] = std::from_chars(text.data(), last, integer);
      status == std::errc() && end == last)
    return integer;
  double number = 0;
  if (const auto [end, status] = std::from_chars(text.data(), last, number);
      status == std::errc() && end == last)
    return number;
  return std::nullopt;
}

// A word may stand without quotes if every YAML reader, also one of version 1.1, sees a string.
bool is_plain_word(const std::string& text) {
  static const std::vector<std::string> kOtherMeaning = {"y", "n", "yes", "no", "on", "off"};
  const auto allowed = [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-' || c == '.' || c == '/';
  };
  if (text.empty() || !(std::isalpha(static_cast<unsigned char>(text[0])) || text[0] == '_') ||
      !std::all_of(text.begin(), text.end(), allowed))
    return false;
  std::string lower = text;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return std::find(kOtherMeaning.begin(), kOtherMeaning.end(), lower) == kOtherMeaning.end() &&
         resolve_scalar(text).is_string();
}

std::string scalar_to_yaml(const Json& json) {
  if (json.is_string()) {
    const auto& text = json.get_ref<const std::string&>();
    return is_plain_word(text) ? text : dump(json);
  }
  std::string text = dump(json);
  // Readers of YAML 1.1, Python's among them, take 1e-05 for a string but 1.0e-05 for a number.
  if (const size_t e = text.find('e');
      json.is_number_float() && e != std::string::npos && text.find('.') == std::string::npos)
    text.insert(e, ".0");
  return text;
}

std::string flow_list(const Json& list) {
  std::string out = "[";
  for (const Json& item : list) {
    if (out.size() > 1) out += ", ";
    out += item.is_array() ? flow_list(item) : item.empty() ? dump(item) : scalar_to_yaml(item);
  }
  return out + "]";
}

bool holds_map(const Json& json) {
  return json.is_object() ? !json.empty()
                          : json.is_array() && std::any_of(json.begin(), json.end(), holds_map);
}

// Lines of `json`, each indented by `indent`; what fits a line of its own is put into one.
std::string block(const Json& json, const std::string& indent) {
  if (!holds_map(json)) {
    if (json.is_array()) return indent + flow_list(json) + "\n";
    return indent + (json.is_object() ? "{}" : scalar_to_yaml(json)) + "\n";
  }
  std::string out;
  for (const auto& entry : json.items()) {
    std::string body = block(entry.value(), indent + "  ");
    if (json.is_array()) {
      body[indent.size()] = '-';
      out += body;
    } else {
      const bool nested = holds_map(entry.value());
      out += indent + scalar_to_yaml(entry.key()) + ":";
      out += nested ? "\n" + body : body.substr(indent.size() + 1);
    }
  }
  return out;
}

}  // namespace

Node parse(const std::string& text, const Place& start) {
  Converter converter(start);
  try {
    std::istringstream stream(text);
    YAML::Parser parser(stream);
    Documents documents;
    if (parser.HandleNextDocument(documents) && parser.HandleNextDocument(documents))
      throw Converter::error(converter.place(documents.starts.back()),
                             documents.starts[0].pos == documents.starts[1].pos
                                 ? "expected a value here"
                                 : "expected one document only");
    return converter.convert(YAML::Load(text), start);
  } catch (const YAML::Exception& e) {
    throw Converter::error(converter.place(e.mark), e.msg);
  }
}

Json resolve_scalar(const std::string& text) {
  if (text.empty() || text == "~" || text == "null" || text == "Null" || text == "NULL")
    return nullptr;
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  return resolve_number(text).value_or(Json(text));
}

std::string to_yaml(const Json& json) { return block(json, ""); }

}  // namespace quench::config
