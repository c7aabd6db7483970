// What a run appends while it goes: JSON, one object per line, and plain text.
#pragma once
#include <schatten/core/value.h>

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

namespace schatten {

/// A file that only grows: every piece is handed to the system whole, so a killed process tears the last one at most.
class LogFile {
 public:
  /// Goes on after the first `keep` bytes of what is there (a resumed run's past), and drops the rest. Refused while
  /// another process (or LogFile) has it open.
  LogFile(std::filesystem::path path, int64_t keep);
  LogFile(const LogFile&) = delete;
  LogFile& operator=(const LogFile&) = delete;
  ~LogFile();
  void write(std::string_view text);
  void write_record(const Value& record);  // as a line of JSON
  int64_t size() const { return size_; }
  /// What was written stays if the power fails.
  void sync() const;

 private:
  [[noreturn]] void fail_here() const;
  std::filesystem::path path_;
  int fd_ = -1;
  int64_t size_ = 0;
};

/// Every complete line; an unfinished last one is dropped, a damaged one elsewhere is an Error.
std::vector<Value> read_jsonl(const std::filesystem::path& path);

}  // namespace schatten
