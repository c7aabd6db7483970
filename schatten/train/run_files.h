// Everything a run writes while it goes, in one place.
#pragma once
#include <schatten/train/config.h>
#include <schatten/train/jsonl.h>
#include <schatten/train/reporter.h>
#include <schatten/train/tensorboard.h>

#include <filesystem>
#include <memory>

namespace schatten {

/// The open files of a run directory. Creating it writes config.toml and environment.json.
class RunFiles {
 public:
  /// `from_step` < 0: a new run. Else records after that step are cut off first.
  RunFiles(const RunConfig& config, int64_t from_step, const std::vector<std::string>& command);
  /// A line of metrics.jsonl, its numbers in TensorBoard, and the reporter told.
  void record(Value record, Reporter& reporter);
  void spectrum(const Value& record);
  void sample(int64_t step, const std::string& text);
  void flush();

 private:
  std::filesystem::path folder_;
  std::unique_ptr<JsonlWriter> metrics_, spectra_;
  std::unique_ptr<EventWriter> events_;
};

/// Refuses a directory that holds another config, or (for a fresh start) any run at all.
void check_run_directory(const RunConfig& config, bool may_exist);

}  // namespace schatten
