// The safetensors format: u64 header length, JSON header, raw little-endian data. Files are treated as hostile.
#pragma once
#include <schatten/core/tensor.h>

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

namespace schatten {

struct TensorFile {
  std::vector<std::pair<std::string, Tensor>> tensors;  // in the order of the file's data
  std::map<std::string, std::string> metadata;
  std::string origin{};  // the file that it was read from; empty when made in code

  /// `origin`, or `otherwise`: who an error is about.
  std::string who(const std::string& otherwise) const { return origin.empty() ? otherwise : origin; }
  const Tensor* find(const std::string& name) const;
  /// Throws an Error that names the nearest tensor when absent.
  const Tensor& at(const std::string& name) const;
};

/// Reads a whole file into memory of its own. Throws Error naming the file and the defect.
TensorFile load_safetensors(const std::filesystem::path& path);
/// One tensor; the data of the others are not read.
Tensor load_safetensors_tensor(const std::filesystem::path& path, const std::string& name);
/// Header only (names, dtypes, shapes, metadata): tensors are on the meta device.
TensorFile load_safetensors_header(const std::filesystem::path& path);
/// Writes beside `path`, syncs and renames: the file is there in full or not at all.
void save_safetensors(const std::filesystem::path& path, const TensorFile& file);

}  // namespace schatten
