#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/train/jsonl.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace schatten {

JsonlWriter::JsonlWriter(std::filesystem::path path) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) fail({path_.string(), "to be written", std::strerror(errno), "Choose another run_dir."});
}

JsonlWriter::~JsonlWriter() {
  if (fd_ >= 0) ::close(fd_);
}

void JsonlWriter::write(const Value& record) {
  std::string line = to_json(record) + "\n";
  for (std::string_view rest = line; !rest.empty();) {
    const ssize_t written = ::write(fd_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0)
      fail({path_.string(), "to be written", std::strerror(errno),
            "Checkpoints up to now are safe: free some space, then go on with --resume."});
    rest.remove_prefix(static_cast<size_t>(written));
  }
}

std::vector<Value> read_jsonl(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  std::vector<Value> records;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    if (end == std::string::npos) break;  // a torn last line: the writer was killed
    const std::string where = path.string() + ", line " + std::to_string(records.size() + 1);
    if (end > at) records.push_back(parse_json(std::string_view(text).substr(at, end - at), where));
    at = end + 1;
  }
  return records;
}

void truncate_jsonl_after(const std::filesystem::path& path, int64_t step) {
  if (!std::filesystem::exists(path)) return;
  std::string kept;
  for (const Value& record : read_jsonl(path))
    if (record.integer_or("step", 0) <= step && record.string_or("event", "") != "end") kept += to_json(record) + "\n";
  write_file_durably(path, kept);
}

}  // namespace schatten
