// What a run knows of its time and its past. Not public.
#pragma once
#include <array>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <limits>

namespace schatten {

using Clock = std::chrono::steady_clock;
inline constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Wall seconds spent in each part of a step.
struct Stopwatch {
  enum Part { forward, backward, optimizer, data, spectra, other, parts };
  std::array<double, parts> seconds{};
  Clock::time_point last = Clock::now();

  void start() { last = Clock::now(); }
  void stop(Part part) {
    const auto now = Clock::now();
    seconds[part] += std::chrono::duration<double>(now - last).count();
    last = now;
  }
  double total() const {
    double sum = 0;
    for (const double s : seconds) sum += s;
    return sum;
  }
};

/// What a run knows of its past: saved with every checkpoint, so that a resumed run goes on as if never stopped.
struct Progress {
  static constexpr double kEmaDecay = 0.9;
  int64_t step = 0;
  double loss_ema = 0;  // biased: divided by 1 - decay^n when shown
  int64_t ema_steps = 0;
  double loss_sum = 0;  // since the last record
  int64_t loss_count = 0;
  double best_validation = std::numeric_limits<double>::infinity(), validation = kNaN, validation_bpb = kNaN;
  int64_t skipped = 0, skips_in_a_row = 0;
  double seconds = 0, cpu_seconds = 0, eval_seconds = 0;

  void fields(auto&& visit) {
    visit("step", step, "");
    visit("loss_ema", loss_ema, "");
    visit("ema_steps", ema_steps, "");
    visit("loss_sum", loss_sum, "");
    visit("loss_count", loss_count, "");
    visit("best_validation", best_validation, "");
    visit("validation", validation, "");
    visit("validation_bpb", validation_bpb, "");
    visit("skipped", skipped, "");
    visit("skips_in_a_row", skips_in_a_row, "");
    visit("seconds", seconds, "");
    visit("cpu_seconds", cpu_seconds, "");
    visit("eval_seconds", eval_seconds, "");
  }
  double shown_ema() const {
    return ema_steps == 0 ? kNaN : loss_ema / (1 - std::pow(kEmaDecay, static_cast<double>(ema_steps)));
  }
  void saw_loss(double loss) {
    loss_ema = kEmaDecay * loss_ema + (1 - kEmaDecay) * loss;
    ++ema_steps;
    loss_sum += loss;
    ++loss_count;
  }
};

}  // namespace schatten
