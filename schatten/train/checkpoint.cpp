#include <ATen/ATen.h>
#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/train/checkpoint.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <vector>

namespace schatten {

namespace fs = std::filesystem;

namespace {

constexpr int64_t kVersion = 1;

/// Step of a folder named step-N, -1 for anything else (half-written ones begin with a dot).
int64_t step_of(const fs::path& folder) {
  const std::string name = folder.filename().string();
  int64_t step = -1;
  if (!name.starts_with("step-")) return -1;
  const auto [end, error] = std::from_chars(name.data() + 5, name.data() + name.size(), step);
  return error == std::errc{} && end == name.data() + name.size() ? step : -1;
}

std::vector<fs::path> checkpoints(const fs::path& run_dir) {
  std::vector<fs::path> found;
  std::error_code none;
  for (const auto& entry : fs::directory_iterator(run_dir / "checkpoints", none))
    if (entry.is_directory() && step_of(entry.path()) >= 0) found.push_back(entry.path());
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return step_of(a) < step_of(b); });
  return found;
}

void remove_leftovers(const fs::path& folder) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (const std::string name = entry.path().filename().string();
        name.starts_with(".step-") || name.starts_with(".old-"))
      fs::remove_all(entry.path(), ignored);
}

/// Out of sight first, in one move: whoever is killed while removing leaves no half of a checkpoint.
void discard(const fs::path& checkpoint) {
  if (!fs::exists(checkpoint)) return;
  const fs::path hidden = checkpoint.parent_path() / (".old-" + checkpoint.filename().string());
  fs::remove_all(hidden);
  fs::rename(checkpoint, hidden);
  fs::remove_all(hidden);
}

}  // namespace

fs::path save_checkpoint(const fs::path& run_dir, const Checkpoint& checkpoint, int64_t keep) {
  const fs::path parent = run_dir / "checkpoints";
  const std::string name = "step-" + std::to_string(checkpoint.step);
  const fs::path half = parent / ("." + name);
  fs::create_directories(parent);
  remove_leftovers(parent);
  fs::create_directory(half);
  try {
    Value state = checkpoint.state;
    state["version"] = kVersion;
    state["step"] = checkpoint.step;
    save_safetensors(half / "model.safetensors", checkpoint.model);
    save_safetensors(half / "optimizer.safetensors", checkpoint.optimizer);
    if (checkpoint.average) save_safetensors(half / "average.safetensors", *checkpoint.average);
    write_file_durably(half / "config.json", to_pretty_json(checkpoint.model_config) + "\n");
    write_file_durably(half / "state.json", to_pretty_json(state) + "\n");
    fsync_folder(half);
  } catch (...) {
    remove_leftovers(parent);
    throw;
  }
  const fs::path folder = parent / name;
  discard(folder);  // the same step again: only after a resume from an older one
  fs::rename(half, folder);
  fsync_folder(parent);
  auto all = checkpoints(run_dir);
  for (size_t i = 0; i + static_cast<size_t>(std::max<int64_t>(keep, 1)) < all.size(); ++i) discard(all[i]);
  return folder;
}

std::optional<fs::path> latest_checkpoint(const fs::path& run_dir) {
  const auto all = checkpoints(run_dir);
  if (all.empty()) return std::nullopt;
  return all.back();
}

Value load_checkpoint_state(const fs::path& folder) {
  Value state = parse_json(read_file(folder / "state.json"), (folder / "state.json").string());
  const int64_t version = state.integer_or("version", -1);
  if (version != kVersion)
    fail({folder.string(), "a checkpoint of version " + std::to_string(kVersion), "version " + std::to_string(version),
          "It was written by another version of Schatten."});
  return state;
}

Checkpoint load_checkpoint(const fs::path& folder) {
  Checkpoint c;
  c.state = load_checkpoint_state(folder);
  c.step = c.state.integer_or("step", 0);
  c.model = load_safetensors(folder / "model.safetensors");
  c.optimizer = load_safetensors(folder / "optimizer.safetensors");
  if (fs::exists(folder / "average.safetensors")) c.average = load_safetensors(folder / "average.safetensors");
  c.model_config = parse_json(read_file(folder / "config.json"), (folder / "config.json").string());
  return c;
}

}  // namespace schatten
