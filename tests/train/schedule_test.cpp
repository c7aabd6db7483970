// The factor on every learning rate: exact where a formula gives exact numbers.
#include <gtest/gtest.h>
#include <schatten/train/config.h>

#include <algorithm>
#include <cmath>
#include <vector>

namespace schatten {
namespace {

std::vector<double> factors(const ScheduleOptions& schedule, int64_t steps) {
  std::vector<double> all;
  for (int64_t step = 0; step < steps; ++step) all.push_back(schedule_factor(schedule, step, steps));
  return all;
}

constexpr ScheduleKind kKinds[] = {ScheduleKind::constant, ScheduleKind::linear, ScheduleKind::cosine,
                                   ScheduleKind::wsd};

TEST(Schedule, WarmUpIsTheSameForEveryKind) {
  for (const ScheduleKind kind : kKinds) {
    const auto f = factors({.kind = kind, .warmup = 8}, 40);
    for (size_t step = 0; step < 8; ++step)
      EXPECT_EQ(f[step], static_cast<double>(step + 1) / 8) << enum_name(kind) << ", step " << step;
    EXPECT_EQ(f[7], 1);
    EXPECT_EQ(f[8], 1) << enum_name(kind);  // the first step after it still has the whole rate
  }
}

TEST(Schedule, WithoutWarmUpTheFirstStepHasTheWholeRate) {
  for (const ScheduleKind kind : kKinds) EXPECT_EQ(schedule_factor({.kind = kind}, 0, 40), 1) << enum_name(kind);
}

TEST(Schedule, TheLastStepHasTheFinalFactor) {
  for (const ScheduleKind kind : kKinds) {
    const double expected = kind == ScheduleKind::constant ? 1 : 0.25;
    const ScheduleOptions schedule{.kind = kind, .warmup = 8, .final_factor = 0.25};
    EXPECT_DOUBLE_EQ(schedule_factor(schedule, 39, 40), expected) << enum_name(kind);
  }
}

TEST(Schedule, ConstantStaysAtOne) {
  for (const double f : factors({.kind = ScheduleKind::constant}, 17)) EXPECT_EQ(f, 1);
}

TEST(Schedule, LinearIsAStraightLineFromTheEndOfWarmUp) {
  // Step 8 of 41 is the first after warm-up, step 40 the last: 32 equal parts.
  const auto f = factors({.kind = ScheduleKind::linear, .warmup = 8, .final_factor = 0.5}, 41);
  for (size_t step = 8; step < 41; ++step) EXPECT_EQ(f[step], 1 - 0.5 * static_cast<double>(step - 8) / 32) << step;
  EXPECT_EQ(f[24], 0.75);  // the middle
}

TEST(Schedule, CosineHasItsQuarters) {
  const auto f = factors({.kind = ScheduleKind::cosine, .warmup = 8, .final_factor = 0.2}, 41);
  EXPECT_DOUBLE_EQ(f[16], 0.2 + 0.8 * 0.5 * (1 + std::sqrt(0.5)));
  EXPECT_DOUBLE_EQ(f[24], 0.6);
  EXPECT_DOUBLE_EQ(f[32], 0.2 + 0.8 * 0.5 * (1 - std::sqrt(0.5)));
  EXPECT_EQ(f[40], 0.2);
}

TEST(Schedule, WsdStaysThenFallsLinearly) {
  // A quarter of 40 steps decays: steps 30 to 39, one tenth of the way each.
  const auto f = factors({.kind = ScheduleKind::wsd, .warmup = 4, .final_factor = 0.5, .decay_share = 0.25}, 40);
  for (size_t step = 3; step < 30; ++step) EXPECT_EQ(f[step], 1) << step;
  for (size_t step = 30; step < 40; ++step)
    EXPECT_DOUBLE_EQ(f[step], 1 - 0.5 * static_cast<double>(step - 29) / 10) << step;
}

TEST(Schedule, WsdWithNothingToDecayIsConstantAndWithAllOfItLinear) {
  for (const double f : factors({.kind = ScheduleKind::wsd, .decay_share = 0}, 10)) EXPECT_EQ(f, 1);
  const auto all = factors({.kind = ScheduleKind::wsd, .final_factor = 0, .decay_share = 1}, 8);
  for (size_t step = 0; step < 8; ++step) EXPECT_DOUBLE_EQ(all[step], 1 - static_cast<double>(step + 1) / 8);
}

TEST(Schedule, NeverJumpsAndNeverLeavesItsRange) {
  const int64_t steps = 400;
  for (const ScheduleKind kind : kKinds)
    for (const int64_t warmup : {0, 40}) {
      const ScheduleOptions schedule{.kind = kind, .warmup = warmup, .final_factor = 0.1};
      const auto f = factors(schedule, steps);
      // The steepest slope there is: warm-up, or wsd's decay over a fifth of the steps.
      const double steepest = std::max(warmup ? 1.0 / 40 : 0, 0.9 / 80);
      for (size_t step = 0; step < f.size(); ++step) {
        EXPECT_GT(f[step], 0) << enum_name(kind) << " " << step;
        EXPECT_LE(f[step], 1) << enum_name(kind) << " " << step;
        const double change = step > 0 ? f[step] - f[step - 1] : 0;
        EXPECT_LE(std::abs(change), steepest + 1e-12) << enum_name(kind) << " " << step;
        EXPECT_TRUE(change <= 0 || static_cast<int64_t>(step) < warmup) << enum_name(kind) << " " << step;
      }
    }
}

TEST(Schedule, ShortRunsHaveFiniteFactors) {
  for (const ScheduleKind kind : kKinds)
    for (const int64_t steps : {1, 2, 3})
      for (int64_t warmup = 0; warmup <= steps; ++warmup)
        for (const double f : factors({.kind = kind, .warmup = warmup}, steps)) {
          EXPECT_GT(f, 0) << enum_name(kind) << ", steps " << steps << ", warm-up " << warmup;
          EXPECT_LE(f, 1) << enum_name(kind) << ", steps " << steps << ", warm-up " << warmup;
        }
}

}  // namespace
}  // namespace schatten
