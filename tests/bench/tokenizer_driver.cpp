// Encodes texts for check_tokenizers.py and tokenizer_speed.py: VOCABULARY INPUT OUTPUT. INPUT
// holds texts, OUTPUT gets their ids: each a 32-bit length, then so many bytes or 32-bit ids.
// Prints the CPU seconds that encoding took.
#include <cstdio>
#include <cstring>
#include <ctime>
#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "data/byte_bpe.h"
#include "data/wordpiece.h"
#include "io/atomic_file.h"

int main(int argc, char** argv) try {
  quench::check(argc == 4, "usage: ", argv[0], " VOCABULARY INPUT OUTPUT");
  const std::string vocabulary = argv[1];
  const auto tokenizer = vocabulary.ends_with(".json") ? quench::load_byte_bpe(vocabulary)
                                                       : quench::load_wordpiece(vocabulary);
  const std::string input = quench::read_file(argv[2]);
  std::vector<std::string_view> texts;
  for (size_t at = 0; at < input.size();) {
    uint32_t size;
    std::memcpy(&size, input.data() + at, sizeof size);
    texts.emplace_back(input.data() + at + sizeof size, size);
    at += sizeof size + size;
  }
  std::vector<std::vector<int32_t>> ids;
  ids.reserve(texts.size());
  const std::clock_t start = std::clock();
  for (std::string_view text : texts) ids.push_back(tokenizer->encode(text));
  std::printf("%.6f\n", static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC);

  std::string output;
  for (const std::vector<int32_t>& list : ids) {
    const auto size = static_cast<uint32_t>(list.size());
    output.append(reinterpret_cast<const char*>(&size), sizeof size);
    output.append(reinterpret_cast<const char*>(list.data()), size * sizeof(int32_t));
  }
  quench::write_file_atomically(argv[3], output);
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
