#include <schatten/train/terminal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>

namespace schatten {

bool is_terminal(std::FILE* stream) { return ::isatty(::fileno(stream)) == 1; }

int terminal_width(std::FILE* stream) {
  winsize size{};
  int width = 100;
  if (const char* columns = std::getenv("COLUMNS")) width = std::atoi(columns);
  if (::ioctl(::fileno(stream), TIOCGWINSZ, &size) == 0 && size.ws_col > 0) width = size.ws_col;
  return std::clamp(width, 60, 200);
}

bool colours(std::FILE* stream) {
  const char* no = std::getenv("NO_COLOR");
  return is_terminal(stream) && !(no && *no);
}

namespace {
std::string printed(const char* format, double v) {
  char text[48];
  std::snprintf(text, sizeof text, format, v);
  return text;
}
/// 1.20e-03 -> 1.20e-3
std::string short_exponent(std::string text) {
  const size_t e = text.find('e');
  if (e != std::string::npos && e + 2 < text.size() && text[e + 2] == '0') text.erase(e + 2, 1);
  if (e != std::string::npos && text[e + 1] == '+') text.erase(e + 1, 1);
  return text;
}
}  // namespace

std::string format_loss(double v) { return std::isfinite(v) ? printed("%.4f", v) : "-"; }
std::string format_signed_loss(double v) { return (v >= 0 ? "+" : "") + format_loss(v); }
std::string format_target(double v) { return std::isfinite(v) ? printed("%.3f", v) : "-"; }
std::string format_rate(double v) { return std::isfinite(v) ? short_exponent(printed("%.2e", v)) : "-"; }
std::string format_short(double v) {
  if (!std::isfinite(v)) return "-";
  return v != 0 && std::abs(v) < 0.01 ? short_exponent(printed("%.1e", v))
                                      : printed(std::abs(v) < 10 ? "%.2f" : "%.1f", v);
}
std::string format_throughput(double v) {
  if (!std::isfinite(v)) return "- tok/s";
  return v >= 1000 ? printed("%.1f k tok/s", v / 1000) : printed("%.0f tok/s", v);
}

size_t display_width(std::string_view text) {
  return static_cast<size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

std::string pad(std::string_view text, size_t columns, bool right) {
  const size_t width = display_width(text);
  const std::string space(width < columns ? columns - width : 0, ' ');
  return right ? space + std::string(text) : std::string(text) + space;
}

std::string wrapped(std::string_view text, size_t indent, size_t width) {
  std::string out;
  size_t column = indent;
  while (!text.empty()) {
    const size_t end = std::min(text.find(' '), text.size());
    const size_t wide = display_width(text.substr(0, end));
    if (column > indent && column + 1 + wide > width) {
      out += '\n' + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += text.substr(0, end);
    column += wide;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

LiveLine::LiveLine(std::FILE* stream) : stream_(stream), active_(is_terminal(stream)) {}
LiveLine::~LiveLine() { clear(); }

void LiveLine::draw(const std::string& text, bool now) {
  if (!active_) return;
  const auto time = std::chrono::steady_clock::now();
  if (!now && drawn_ && time - last_ < std::chrono::milliseconds(50)) return;
  last_ = time;
  std::string line = text;
  const auto width = static_cast<size_t>(terminal_width(stream_)) - 1;
  if (line.size() > width) line.resize(width);  // a wrapped line cannot be redrawn in place
  std::fprintf(stream_, "\r\033[2K%s", line.c_str());
  std::fflush(stream_);
  drawn_ = true;
}

void LiveLine::clear() {
  if (!drawn_) return;
  std::fputs("\r\033[2K", stream_);
  std::fflush(stream_);
  drawn_ = false;
}

void LiveLine::print(const std::string& text) {
  clear();
  std::fprintf(stream_, "%s\n", text.c_str());
  std::fflush(stream_);
}

void EtaClock::tick(std::chrono::steady_clock::time_point now) {
  if (++ticks_ == 1) first_ = now;
  last_ = now;
}

double EtaClock::remaining(int64_t steps_left) const {
  if (ticks_ < 2) return std::numeric_limits<double>::quiet_NaN();
  return std::chrono::duration<double>(last_ - first_).count() / static_cast<double>(ticks_ - 1) *
         static_cast<double>(steps_left);
}

}  // namespace schatten
