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
  /// `past`: what `sizes` said when the checkpoint that the run goes on from was written; null for a new run.
  /// `kernels`: what was decided on them, for environment.json.
  RunFiles(const RunConfig& config, const Value& past, const std::vector<std::string>& command, const Value& kernels);
  /// A line of metrics.jsonl, its numbers in TensorBoard, and the reporter told.
  void record(Value record, Reporter& reporter);
  void spectrum(const Value& record);
  void sample(int64_t step, const std::string& text);
  void flush();
  /// Bytes of every log, synced: kept in the checkpoint, so that a resumed run drops exactly what came after it.
  Value sizes() const;

 private:
  std::filesystem::path folder_;
  std::unique_ptr<LogFile> metrics_, spectra_, samples_;
  std::unique_ptr<EventWriter> events_;
};

/// Refuses a directory that holds another config, or (for a fresh start) any run at all.
void check_run_directory(const RunConfig& config, bool may_exist);

}  // namespace schatten
