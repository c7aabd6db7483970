// Checkpoints: complete or absent.
#pragma once
#include <schatten/core/safetensors.h>
#include <schatten/core/value.h>

#include <filesystem>
#include <optional>

namespace schatten {

/// `checkpoints/step-N/` holds model.safetensors (transformers' names), config.json (transformers'),
/// optimizer.safetensors and state.json; average.safetensors where weights are averaged.
struct Checkpoint {
  int64_t step = 0;
  TensorFile model, optimizer;
  std::optional<TensorFile> average{};  // averaged weights, by our parameter names
  Value model_config;                   // transformers' config.json
  Value state;                          // position, counters, clocks: see docs/run-directory.md
};

/// Written beside, fsynced, renamed; then all but the newest `keep` are removed.
std::filesystem::path save_checkpoint(const std::filesystem::path& run_dir, const Checkpoint& checkpoint, int64_t keep);
/// Newest complete checkpoint folder of a run, if any.
std::optional<std::filesystem::path> latest_checkpoint(const std::filesystem::path& run_dir);
/// Reads all of it or throws an Error that names the defect (truncated, other version, missing file).
Checkpoint load_checkpoint(const std::filesystem::path& folder);
/// Its state.json alone.
Value load_checkpoint_state(const std::filesystem::path& folder);

}  // namespace schatten
