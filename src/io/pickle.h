// Reads the files of torch.save (pytorch_model.bin): a zip file with a Python pickle of the
// dictionary's structure (io/unpickler.h) and one entry of raw bytes for each storage.
#pragma once

#include <ATen/core/Tensor.h>

#include <filesystem>
#include <map>
#include <string>

namespace quench {

// Reads one file, or a sharded set through its index (`*.index.json`). Throws Error on anything
// but a dictionary of strings and strided tensors; no file can make the reader crash.
//
// Nothing is copied: the tensors lie in a private memory map of the file, which lives as long as
// any of them, and those that shared a storage share it still. They may be written to (the file
// never changes). The checksums of the zip file are not looked at.
std::map<std::string, at::Tensor> read_pickle(const std::filesystem::path& path);

}  // namespace quench
