// CIFAR and IDX (MNIST): the first byte says which.
#include "data/image/source.h"
#include "fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace quench;
  if (size < 1) return 0;
  const std::string_view input = fuzz::text(data + 1, size - 1);
  return fuzz::only_errors([&] {
    if (data[0] % 3 == 0) {
      fuzz::write("test_batch.bin", input);
      cifar10(fuzz::folder(), Subset::kValidation)->load(0);
    } else if (data[0] % 3 == 1) {
      fuzz::write("test.bin", input);
      cifar100(fuzz::folder(), Subset::kValidation)->load(0);
    } else {
      const size_t labels = std::min<size_t>(input.size(), 12);
      fuzz::write("t10k-labels-idx1-ubyte", input.substr(0, labels));
      fuzz::write("t10k-images-idx3-ubyte", input.substr(labels));
      mnist(fuzz::folder(), Subset::kValidation)->load(0);
    }
  });
}
