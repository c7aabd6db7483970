#include <fcntl.h>
#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <schatten/train/jsonl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace schatten {

LogFile::LogFile(std::filesystem::path path, int64_t keep) : path_(std::move(path)) {
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) fail({path_.string(), "to be written", std::strerror(errno), "Choose another run_dir."});
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0)  // gone with the process, however it ends
    fail({path_.string(), "to be the only process that writes it", "another one that does",
          "Wait for it, or choose another run_dir."});
  struct stat facts {};
  if (::fstat(fd_, &facts) != 0) fail_here();
  size_ = std::min<int64_t>(keep, facts.st_size);
  if (S_ISREG(facts.st_mode) && ::ftruncate(fd_, size_) != 0) fail_here();
}

LogFile::~LogFile() {
  if (fd_ >= 0) ::close(fd_);
}

void LogFile::fail_here() const {
  fail({path_.string(), "to be written", std::strerror(errno),
        "Checkpoints up to now are safe: free some space, then go on with --resume."});
}

void LogFile::write(std::string_view text) {
  for (std::string_view rest = text; !rest.empty();) {
    const ssize_t written = ::write(fd_, rest.data(), rest.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) fail_here();
    rest.remove_prefix(static_cast<size_t>(written));
    size_ += written;
  }
}

void LogFile::write_record(const Value& record) { write(to_json(record) + "\n"); }

void LogFile::sync() const {
  if (::fsync(fd_) != 0 && errno != EINVAL) fail_here();  // EINVAL: a device or pipe, which has nothing to sync
}

std::vector<Value> read_jsonl(const std::filesystem::path& path) {
  const std::string text = read_file(path);
  std::vector<Value> records;
  int64_t line = 1;
  for (size_t at = 0; at < text.size(); ++line) {
    const size_t end = text.find('\n', at);
    if (end == std::string::npos) break;  // a torn last line: the writer was killed
    const std::string where = path.string() + ", line " + std::to_string(line);
    if (end > at) records.push_back(parse_json(std::string_view(text).substr(at, end - at), where));
    at = end + 1;
  }
  return records;
}

}  // namespace schatten
