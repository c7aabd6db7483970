// Whole files in and out, and sizes and times for people.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

namespace schatten {

/// Throws an Error that names the file and the cause.
std::string read_file(const std::filesystem::path& path);

/// After it returns the file is there in full, and stays so if the power fails; if it throws, the
/// file is as before.
void write_file_durably(const std::filesystem::path& path, std::string_view text);

/// A file that appears under its name only when complete: written beside it, synced, renamed.
class DurableFile {
 public:
  explicit DurableFile(const std::filesystem::path& path);
  ~DurableFile();  // without commit(): removes what was written
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;

  void write(const void* data, size_t size);
  void commit();

 private:
  [[noreturn]] void fail_here(int error) const;

  std::filesystem::path target_, temporary_;
  int descriptor_ = -1;
};

/// A name beside `path` that no other process or thread uses: ".NAME.PID-NUMBER.tmp".
std::filesystem::path temporary_path(const std::filesystem::path& path);

/// Makes renames inside the folder last.
void fsync_folder(const std::filesystem::path& folder);

std::string format_bytes(int64_t bytes);      // "128 MiB"
std::string format_count(int64_t count);      // "3.3 M"
std::string format_duration(double seconds);  // "1:12", "2:03:04"

}  // namespace schatten
