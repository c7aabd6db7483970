#include <schatten/core/error.h>
#include <schatten/core/files.h>

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <fstream>

namespace schatten {

namespace fs = std::filesystem;

namespace {

/// Closes on the way out.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  int get() const { return fd_; }

 private:
  int fd_;
};

[[noreturn]] void trouble(const fs::path& path, const char* what) {
  const int reason = errno;
  fail({path.string(), what, std::strerror(reason),
        reason == ENOSPC ? "Free some space; nothing was lost." : ""});
}

void write_all(int fd, std::string_view data, const fs::path& path) {
  while (!data.empty()) {
    const ssize_t written = ::write(fd, data.data(), data.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) trouble(path, "to be written");
    data.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace

std::string read_file(const fs::path& path) {
  std::error_code none;
  if (fs::is_directory(path, none)) fail({path.string(), "a file", "a folder", ""});
  std::ifstream in(path, std::ios::binary);
  if (!in) trouble(path, "a readable file");
  std::string data((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (in.bad()) trouble(path, "a readable file");
  return data;
}

void write_file_durably(const fs::path& path, std::string_view data) {
  fs::path half = path;
  half += ".half-" + std::to_string(::getpid());
  try {
    const Descriptor file(::open(half.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666));
    if (file.get() < 0) trouble(path, "to be written");
    write_all(file.get(), data, path);
    if (::fsync(file.get()) != 0) trouble(path, "to reach the disk");
    if (::rename(half.c_str(), path.c_str()) != 0) trouble(path, "to be written");
  } catch (...) {
    ::unlink(half.c_str());
    throw;
  }
  fsync_folder(path.has_parent_path() ? path.parent_path() : fs::path("."));
}

void fsync_folder(const fs::path& folder) {
  const Descriptor fd(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (fd.get() >= 0) ::fsync(fd.get());  // some file systems refuse: the data itself is synced already
}

std::string format_bytes(int64_t bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  int unit = 0;
  while (value >= 1024 && unit < 4) value /= 1024, ++unit;
  char text[32];
  std::snprintf(text, sizeof text, value < 10 && unit > 0 ? "%.1f %s" : "%.0f %s", value, kUnits[unit]);
  return text;
}

std::string format_count(int64_t count) {
  constexpr const char* kUnits[] = {"", " k", " M", " G", " T"};
  auto value = static_cast<double>(count);
  int unit = 0;
  while (value >= 1000 && unit < 4) value /= 1000, ++unit;
  char text[32];
  std::snprintf(text, sizeof text, value < 100 && unit > 0 ? "%.1f%s" : "%.0f%s", value, kUnits[unit]);
  return text;
}

std::string format_duration(double seconds) {
  if (!std::isfinite(seconds)) return "-:--";
  const auto total = static_cast<int64_t>(std::llround(std::max(0.0, seconds)));
  char text[32];
  if (total >= 3600)
    std::snprintf(text, sizeof text, "%ld:%02ld:%02ld", static_cast<long>(total / 3600),
                  static_cast<long>(total / 60 % 60), static_cast<long>(total % 60));
  else
    std::snprintf(text, sizeof text, "%ld:%02ld", static_cast<long>(total / 60), static_cast<long>(total % 60));
  return text;
}

}  // namespace schatten
