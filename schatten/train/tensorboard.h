// TensorBoard event files, written without protobuf.
#pragma once
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>
#include <vector>

namespace schatten {

/// CRC-32C (Castagnoli), as TFRecord wants it.
uint32_t crc32c(std::string_view data);
/// Rotated and offset, so that a checksum of checksums does not vanish.
uint32_t masked_crc32c(std::string_view data);

/// A new file `events.out.tfevents.<seconds>.<host>.<pid>.<n>`; TensorBoard merges several by step.
class EventWriter {
 public:
  EventWriter(const std::filesystem::path& folder, double wall_time);
  void scalar(std::string_view tag, int64_t step, double value, double wall_time);
  /// 32 buckets of log10 of the values.
  void histogram(std::string_view tag, int64_t step, const std::vector<double>& values, double wall_time);
  void flush();
  const std::filesystem::path& path() const { return path_; }

 private:
  void record(const std::string& event);
  std::filesystem::path path_;
  std::ofstream out_;
};

/// Encoded events, for tests against files of the tensorboard package.
std::string version_event(double wall_time);
std::string scalar_event(std::string_view tag, int64_t step, float value, double wall_time);
std::string framed(std::string_view event);  // length, checksum, data, checksum

}  // namespace schatten
