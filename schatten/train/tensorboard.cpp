#include <schatten/core/error.h>
#include <schatten/train/tensorboard.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

namespace schatten {

namespace {

constexpr std::array<uint32_t, 256> make_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) c = c & 1 ? (c >> 1) ^ 0x82F63B78u : c >> 1;
    table[i] = c;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kTable = make_table();

// Protocol buffers: a field is (number << 3 | wire type), then its value.
void varint(std::string& out, uint64_t v) {
  for (; v >= 0x80; v >>= 7) out += static_cast<char>((v & 0x7F) | 0x80);
  out += static_cast<char>(v);
}
template <class T>
void fixed(std::string& out, int field, int wire, T v) {
  varint(out, static_cast<uint64_t>(field << 3 | wire));
  out.append(reinterpret_cast<const char*>(&v), sizeof v);
}
void number(std::string& out, int field, double v) { fixed(out, field, 1, v); }
void text(std::string& out, int field, std::string_view v) {
  varint(out, static_cast<uint64_t>(field << 3 | 2));
  varint(out, v.size());
  out += v;
}

std::string event_with(std::string_view value, int64_t step, double wall_time) {
  std::string summary, event;
  text(summary, 1, value);
  number(event, 1, wall_time);
  if (step != 0) {
    varint(event, 2 << 3);
    varint(event, static_cast<uint64_t>(step));
  }
  text(event, 5, summary);
  return event;
}

std::string packed(const std::vector<double>& values) {
  return {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double)};
}

}  // namespace

uint32_t crc32c(std::string_view data) {
  uint32_t c = 0xFFFFFFFFu;
  for (const char byte : data) c = (c >> 8) ^ kTable[(c ^ static_cast<unsigned char>(byte)) & 0xFF];
  return c ^ 0xFFFFFFFFu;
}

uint32_t masked_crc32c(std::string_view data) {
  const uint32_t c = crc32c(data);
  return ((c >> 15) | (c << 17)) + 0xA282EAD8u;
}

std::string framed(std::string_view event) {
  const uint64_t length = event.size();
  std::string out(reinterpret_cast<const char*>(&length), sizeof length);
  const uint32_t of_length = masked_crc32c(out), of_event = masked_crc32c(event);
  out.append(reinterpret_cast<const char*>(&of_length), sizeof of_length);
  out += event;
  out.append(reinterpret_cast<const char*>(&of_event), sizeof of_event);
  return out;
}

std::string version_event(double wall_time) {
  std::string event;
  number(event, 1, wall_time);
  text(event, 3, "brain.Event:2");
  return event;
}

std::string scalar_event(std::string_view tag, int64_t step, float value, double wall_time) {
  std::string v;
  text(v, 1, tag);
  fixed(v, 2, 5, value);
  return event_with(v, step, wall_time);
}

EventWriter::EventWriter(const std::filesystem::path& folder, double wall_time) {
  char host[256] = "host";
  ::gethostname(host, sizeof host - 1);
  int n = 0;
  do {
    path_ = folder / ("events.out.tfevents." + std::to_string(static_cast<int64_t>(wall_time)) + "." + host + "." +
                      std::to_string(::getpid()) + "." + std::to_string(n++));
  } while (std::filesystem::exists(path_));
  out_.open(path_, std::ios::binary);
  if (!out_) fail({path_.string(), "to be written", std::strerror(errno), "Choose another run_dir."});
  record(version_event(wall_time));
}

void EventWriter::scalar(std::string_view tag, int64_t step, double value, double wall_time) {
  record(scalar_event(tag, step, static_cast<float>(value), wall_time));
}

void EventWriter::histogram(std::string_view tag, int64_t step, const std::vector<double>& values, double wall_time) {
  std::vector<double> logs;
  for (const double v : values)
    if (v > 0 && std::isfinite(v)) logs.push_back(std::log10(v));
  if (logs.empty()) return;
  const auto [low, high] = std::minmax_element(logs.begin(), logs.end());
  constexpr int kBuckets = 32;
  const double width = std::max(*high - *low, 1e-9) / kBuckets;
  std::vector<double> limits, counts(kBuckets, 0);
  for (int i = 1; i <= kBuckets; ++i) limits.push_back(*low + width * i);
  limits.back() = std::max(limits.back(), *high);
  double sum = 0, squares = 0;
  for (const double v : logs) {
    ++counts[static_cast<size_t>(std::clamp(static_cast<int>((v - *low) / width), 0, kBuckets - 1))];
    sum += v, squares += v * v;
  }
  std::string histogram, value;
  number(histogram, 1, *low), number(histogram, 2, *high), number(histogram, 3, static_cast<double>(logs.size()));
  number(histogram, 4, sum), number(histogram, 5, squares);
  text(histogram, 6, packed(limits)), text(histogram, 7, packed(counts));
  text(value, 1, tag), text(value, 5, histogram);
  record(event_with(value, step, wall_time));
}

void EventWriter::record(const std::string& event) { out_ << framed(event); }

void EventWriter::flush() {
  if (!out_.flush())
    fail({path_.string(), "to be written", "a write error (is the disk full?)", "Free some space, then --resume."});
}

}  // namespace schatten
