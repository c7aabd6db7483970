// The weights of a model on disk: one safetensors file, several with an index, or a folder of these.
#pragma once
#include <schatten/core/tensor.h>

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace schatten {

struct StoredTensor {
  std::string name;
  std::filesystem::path file;  // load_safetensors_tensor(file, name)
  at::ScalarType dtype;
  std::vector<int64_t> shape;
};

/// What there is; only headers are read. `path` is
///   FILE.safetensors   the tensors of this file
///   FILE.index.json    those that its "weight_map" names, from files beside it
///   a folder           its model.safetensors.index.json, else its model.safetensors, else all *.safetensors in it
/// Throws Error: nothing there, a tensor that the index promises and its file lacks, a name in two files.
std::vector<StoredTensor> list_weights(const std::filesystem::path& path);

}  // namespace schatten
