// A config file and, behind a NUL, the assignment of a --set: read into a run's whole config.
#include "fuzz.h"
#include "run/config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quench;
  return fuzz::only_errors([&] {
    const auto [file, assignment] = fuzz::halves(fuzz::text(data, size));
    fuzz::write("words.txt", "words\n");
    std::vector<std::string> assignments;
    if (!assignment.empty()) assignments.emplace_back(assignment);
    load_run_config(fuzz::write("a.yaml", file), assignments);
  });
}
