// Config files and --set.
#include "config/yaml.h"
#include "config/node.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quench;
  return fuzz::only_errors([&] {
    const auto [file, assignment] = fuzz::halves(fuzz::text(data, size));
    config::Node node = config::parse(std::string(file), {"a.yaml", 1});
    node.kind = config::Node::Kind::kMap;
    config::set(node, std::string(assignment));
  });
}
