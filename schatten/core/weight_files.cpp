#include <ATen/ATen.h>
#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/core/safetensors.h>
#include <schatten/core/value.h>
#include <schatten/core/weight_files.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

namespace schatten {

namespace {

namespace fs = std::filesystem;

std::vector<StoredTensor> list_file(const fs::path& path) {
  std::vector<StoredTensor> list;
  for (const auto& [name, tensor] : load_safetensors_header(path).tensors)
    list.push_back({name, path, tensor.scalar_type(), tensor.sizes().vec()});
  return list;
}

std::vector<StoredTensor> list_files(const std::vector<fs::path>& files) {
  std::vector<StoredTensor> list;
  std::map<std::string, fs::path> seen;
  for (const fs::path& file : files)
    for (StoredTensor& t : list_file(file)) {
      const auto [where, fresh] = seen.emplace(t.name, file);
      if (!fresh)
        fail({file.parent_path().string(), "every tensor in one file",
              "'" + t.name + "' in " + where->second.filename().string() + " and " + file.filename().string(),
              "Name one of the files."});
      list.push_back(std::move(t));
    }
  return list;
}

/// A file beside the index, and no other place.
fs::path shard(const fs::path& index, const Value& name) {
  const fs::path file = name.as_string();
  if (file.empty() || file != file.filename())
    fail({index.string(), "names of files beside it", "'" + file.string() + "'", ""});
  return index.parent_path() / file;
}

std::vector<StoredTensor> list_index(const fs::path& index) {
  const Value json = parse_json(read_file(index), index.string());
  std::map<fs::path, std::set<std::string>> wanted;
  for (const auto& [name, file] : json.at("weight_map").as_table()) wanted[shard(index, file)].insert(name);
  std::vector<StoredTensor> list;
  for (auto& [file, names] : wanted) {
    for (StoredTensor& t : list_file(file))
      if (names.erase(t.name) > 0) list.push_back(std::move(t));
    if (!names.empty()) fail({index.string(), "'" + *names.begin() + "' in " + file.string(), "none", ""});
  }
  return list;
}

std::vector<StoredTensor> list_folder(const fs::path& folder) {
  if (const fs::path index = folder / "model.safetensors.index.json"; fs::exists(index)) return list_index(index);
  if (const fs::path file = folder / "model.safetensors"; fs::exists(file)) return list_file(file);
  std::vector<fs::path> files;
  for (const auto& entry : fs::directory_iterator(folder))
    if (entry.path().extension() == ".safetensors") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  if (files.empty())
    fail({folder.string(), "*.safetensors in this folder", "none",
          "A run of `schatten train` has them in checkpoints/step-N."});
  return list_files(files);
}

}  // namespace

std::vector<StoredTensor> list_weights(const fs::path& path) {
  if (fs::is_directory(path)) return list_folder(path);
  return path.extension() == ".json" ? list_index(path) : list_file(path);
}

}  // namespace schatten
