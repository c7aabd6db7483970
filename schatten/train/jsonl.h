// One JSON object per line: appended, flushed, read back with a torn last line tolerated.
#pragma once
#include <schatten/core/value.h>

#include <filesystem>
#include <vector>

namespace schatten {

class JsonlWriter {
 public:
  explicit JsonlWriter(std::filesystem::path path);
  JsonlWriter(const JsonlWriter&) = delete;
  JsonlWriter& operator=(const JsonlWriter&) = delete;
  ~JsonlWriter();
  void write(const Value& record);

 private:
  std::filesystem::path path_;
  int fd_ = -1;
};

/// Every complete line; an unfinished last one is dropped, a damaged one elsewhere is an Error.
std::vector<Value> read_jsonl(const std::filesystem::path& path);

/// Cuts the file back to the records of `step` and before (and no `end` record): what a resumed run goes on from.
void truncate_jsonl_after(const std::filesystem::path& path, int64_t step);

}  // namespace schatten
