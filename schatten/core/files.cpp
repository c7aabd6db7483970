#include <fcntl.h>
#include <schatten/core/error.h>
#include <schatten/core/files.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <functional>
#include <iterator>
#include <system_error>
#include <thread>
#include <utility>

namespace schatten {
namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_file(const fs::path& path, std::string expected, int error) {
  fail({path.string(), std::move(expected), std::generic_category().message(error), ""});
}

/// Closes on every way out.
class Descriptor {
 public:
  Descriptor(const fs::path& path, int flags) : number_(::open(path.c_str(), flags | O_CLOEXEC)) {}
  ~Descriptor() {
    if (number_ >= 0) ::close(number_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int number() const { return number_; }

 private:
  int number_;
};

// A link stays a link; a device or folder must not be replaced by a file.
fs::path replaceable(const fs::path& path) {
  std::error_code ignored;
  const fs::file_status status = fs::status(path, ignored);
  if (!fs::exists(status)) return path;
  if (!fs::is_regular_file(status))
    fail({path.string(), "a regular file or none", "a folder or device", "Choose another name."});
  return fs::canonical(path);
}

fs::path folder_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : "."; }

/// Three digits at most: "3.3 M", "128 MiB".
std::string scaled(double value, double base, const char* const* units, size_t count) {
  size_t unit = 0;
  double size = std::abs(value);
  const auto rounded = [](double v) { return v < 99.95 ? std::round(v * 10) / 10 : std::round(v); };
  for (; unit + 1 < count && rounded(size) >= base; ++unit) size /= base;
  char text[64];
  const bool whole = rounded(size) == std::floor(rounded(size));
  std::snprintf(text, sizeof text, "%s%.*f%s", value < 0 ? "-" : "", whole ? 0 : 1, rounded(size), units[unit]);
  return text;
}

}  // namespace

std::string read_file(const fs::path& path) {
  const Descriptor file(path, O_RDONLY);
  if (file.number() < 0) fail_file(path, "a readable file", errno);
  std::string text;
  constexpr size_t chunk = 1 << 16;
  for (size_t used = 0;;) {
    if (text.size() - used < chunk) text.resize(std::max(text.size() * 2, used + chunk));
    const ssize_t got = ::read(file.number(), text.data() + used, text.size() - used);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail_file(path, "a readable file", errno);
    used += static_cast<size_t>(got);
    if (got == 0) {
      text.resize(used);
      return text;
    }
  }
}

DurableFile::DurableFile(const fs::path& path)
    : target_(replaceable(path)),
      temporary_(temporary_path(target_)),
      descriptor_(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666)) {
  if (descriptor_ < 0) fail_here(errno);
}

DurableFile::~DurableFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void DurableFile::fail_here(int error) const { fail_file(target_, "to write it", error); }

void DurableFile::write(const void* data, size_t size) {
  const char* at = static_cast<const char*>(data);
  constexpr size_t most = size_t{1} << 30;  // Linux takes less than 2 GiB at once
  while (size > 0) {
    const ssize_t done = ::write(descriptor_, at, std::min(size, most));
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail_here(errno);
    at += done;
    size -= static_cast<size_t>(done);
  }
}

void DurableFile::commit() {
  if (::fsync(descriptor_) != 0) fail_here(errno);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail_here(errno);
  ::close(std::exchange(descriptor_, -1));
  fsync_folder(folder_of(target_));
}

void write_file_durably(const fs::path& path, std::string_view text) {
  DurableFile file(path);
  file.write(text.data(), text.size());
  file.commit();
}

fs::path temporary_path(const fs::path& path) {
  constexpr size_t longest = 200;  // names end at 255 bytes
  const auto now = static_cast<size_t>(std::chrono::steady_clock::now().time_since_epoch().count());
  const size_t number = now ^ (std::hash<std::thread::id>{}(std::this_thread::get_id()) << 1);
  const std::string name = path.filename().string().substr(0, longest);
  return path.parent_path() / ("." + name + "." + std::to_string(::getpid()) + "-" + std::to_string(number) + ".tmp");
}

void fsync_folder(const fs::path& folder) {
  const Descriptor opened(folder.empty() ? "." : folder, O_RDONLY | O_DIRECTORY);
  if (opened.number() < 0) fail_file(folder, "a readable folder", errno);
  // Some network file systems cannot sync a folder and say so with EINVAL.
  if (::fsync(opened.number()) != 0 && errno != EINVAL) fail_file(folder, "to sync the folder", errno);
}

std::string format_bytes(int64_t bytes) {
  const char* const units[] = {" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"};
  return scaled(static_cast<double>(bytes), 1024, units, std::size(units));
}

std::string format_count(int64_t count) {
  const char* const units[] = {"", " k", " M", " B", " T"};
  return scaled(static_cast<double>(count), 1000, units, std::size(units));
}

std::string format_duration(double seconds) {
  constexpr double longest = 1e12;
  if (!(seconds >= 0 && seconds < longest)) return "?";
  const long long all = std::llround(seconds);
  char text[64];
  if (all < 3600) {
    std::snprintf(text, sizeof text, "%lld:%02lld", all / 60, all % 60);
  } else {
    std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", all / 3600, all / 60 % 60, all % 60);
  }
  return text;
}

}  // namespace schatten
