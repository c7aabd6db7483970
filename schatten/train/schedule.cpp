#include <schatten/train/config.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace schatten {

double schedule_factor(const ScheduleOptions& s, int64_t step, int64_t steps) {
  if (step < s.warmup) return static_cast<double>(step + 1) / static_cast<double>(s.warmup);
  const auto share = [](int64_t part, int64_t whole) {
    return whole > 0 ? std::clamp(static_cast<double>(part) / static_cast<double>(whole), 0.0, 1.0) : 1.0;
  };
  const double progress = share(step - s.warmup, steps - 1 - s.warmup);
  const auto decay = static_cast<int64_t>(std::llround(s.decay_share * static_cast<double>(steps)));
  switch (s.kind) {
    case ScheduleKind::constant: return 1;
    case ScheduleKind::linear: return 1 + (s.final_factor - 1) * progress;
    case ScheduleKind::cosine:
      return s.final_factor + (1 - s.final_factor) * 0.5 * (1 + std::cos(std::numbers::pi * progress));
    case ScheduleKind::wsd:
      return step < steps - decay ? 1 : 1 + (s.final_factor - 1) * share(step - (steps - decay) + 1, decay);
  }
  return 1;
}

}  // namespace schatten
