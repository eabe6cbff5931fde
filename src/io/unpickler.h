// The Python pickles in the files of torch.save: programs for a small stack machine that build a
// dictionary of tensors. This machine knows the instructions (of protocol 2, torch.save's default)
// and the globals of which such dictionaries are made, and refuses all others by name: nothing that
// a file says is ever executed.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <string>
#include <string_view>

namespace quench {

// Returns a storage of `size` elements as a 1-dimensional tensor; throws Error where it has none.
using LoadStorage =
    std::function<at::Tensor(at::ScalarType dtype, const std::string& key, int64_t size)>;

// Runs the program; the tensors are views of the storages. `where` names it in errors. Throws
// Error.
std::map<std::string, at::Tensor> unpickle(std::string_view program, const LoadStorage& load,
                                           const std::string& where);

}  // namespace quench
