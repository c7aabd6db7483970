// What a person sees: one live line on a terminal, plain lines when piped.
#pragma once
#include <chrono>
#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

namespace schatten {

bool is_terminal(std::FILE* stream);
int terminal_width(std::FILE* stream);  // 60 .. 200; 100 when piped
bool colours(std::FILE* stream);        // a terminal, and NO_COLOR unset

std::string format_loss(double v);                        // "1.4312", "-" when not finite
std::string format_signed_loss(double v);                 // "+0.0062"
std::string format_target(double v);                      // "2.180": a loss that is a mark, not a measurement
std::string format_rate(double v);                        // "2.00e-2"
std::string format_short(double v);                       // "0.31", "1.2e-3"
std::string format_throughput(double tokens_per_second);  // "11.4 k tok/s"

/// Text padded to columns counted in code points.
std::string pad(std::string_view text, size_t columns, bool right = false);
size_t display_width(std::string_view text);
/// Broken at spaces into lines that end at column `width`; the first begins at column `indent`, where the cursor stands,
/// the others with as many spaces.
std::string wrapped(std::string_view text, size_t indent, size_t width);

/// A line that is redrawn at most every 50 ms; ordinary text goes above it. Does nothing when piped.
class LiveLine {
 public:
  explicit LiveLine(std::FILE* stream);
  ~LiveLine();
  LiveLine(const LiveLine&) = delete;
  LiveLine& operator=(const LiveLine&) = delete;
  bool active() const { return active_; }
  void draw(const std::string& text, bool now = false);
  void clear();
  /// Whole lines of ordinary text.
  void print(const std::string& text);

 private:
  std::FILE* stream_;
  bool active_, drawn_ = false;
  std::chrono::steady_clock::time_point last_{};
};

/// Remaining time from the mean duration of steps, without the first: it pays for caches and allocation.
class EtaClock {
 public:
  void tick(std::chrono::steady_clock::time_point now = std::chrono::steady_clock::now());
  double remaining(int64_t steps_left) const;  // NaN until two steps are done

 private:
  int64_t ticks_ = 0;
  std::chrono::steady_clock::time_point first_{}, last_{};
};

}  // namespace schatten
