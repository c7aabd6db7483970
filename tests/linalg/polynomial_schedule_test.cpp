// The registered coefficients against published values, golden files and their own promise.
#include <gtest/gtest.h>
#include <schatten/core/error.h>
#include <schatten/core/value.h>
#include <schatten/linalg/polynomial_schedule.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "support/golden.h"

namespace schatten::testing {
namespace {

using Rows = std::vector<std::array<double, 3>>;

struct Row {
  const char* name;
  int steps;
  std::array<double, 5> values;  // at s = 1e-3, 1e-2, 0.1, 0.5, 1
  double low, high;              // on [1e-2, 1]
};

/// Measured in float64 on the published coefficients by another implementation.
constexpr std::array<double, 5> kAt = {1e-3, 1e-2, 0.1, 0.5, 1.0};
constexpr Row kTable[] = {
    {"quintic", 5, {.4705439512, .6989170633, .7121200817, .7654385305, .6964364095}, .6818, 1.1344},
    {"you", 5, {.4749815640, 1.0180252250, 1.0190498887, .9858693541, .9783455603}, .9778, 1.0318},
    {"modded", 5, {.8588726435, 1.0271101784, 1.0591611380, .9106108757, .8591289631}, .8589, 1.1411},
    {"polar_express", 5, {.8461773735, 1.0660004994, .8749324699, .9343310005, 1.0287514495}, .8703, 1.1236},
    {"polar_express", 6, {.9944067334, .9988539159, .9979076084, 1.0010626667, .9995813032}, .9974, 1.0012},
    {"gram105", 5, {.7290030894, .9060268444, .8787154176, .8849240341, 1.0190278794}, .8461, 1.1236},
    {"aol_a", 4, {.1465949453, 1.0141567052, 1.0310022508, 1.0270360025, .9438268825}, .9409, 1.0500},
    {"aol_b", 4, {.1203638438, .9726696321, 1.0078721935, .9845569000, .9941459109}, .9727, 1.1450},
    {"cubic", 5, {.0075936353, .0758229096, .6587189737, .9999987647, 1}, .0758, 1}};

/// A set in circulation that flips signs.
const Rows kAolC = {
    {4.0098, -7.0585, 2.4635}, {3.4585, -5.5479, 2.5959}, {2.7573, -3.2939, 1.4254}, {2.7215, -3.0494, 1.3169}};

double error(const PolynomialSchedule& schedule, const Row& row) {
  double worst = 0;
  for (size_t i = 0; i < kAt.size(); ++i) worst = std::max(worst, std::abs(schedule(kAt[i]) - row.values[i]));
  return worst;
}

std::string refusal(const std::function<void()>& f) {
  try {
    f();
  } catch (const UsageError& e) {
    return e.what();
  }
  return "";
}

TEST(PolynomialSchedule, HasThePublishedScalarValues) {
  for (const Row& row : kTable) {
    const PolynomialSchedule schedule = polynomial_schedule(row.name, row.steps);
    EXPECT_LT(error(schedule, row), 1e-9) << row.name;
    EXPECT_NEAR(schedule.band[0], row.low, 1.01e-4) << row.name;  // theirs to the nearest, ours outwards
    EXPECT_NEAR(schedule.band[1], row.high, 1.01e-4) << row.name;
  }
}

/// A tolerance that nothing can miss proves nothing: a wrong fourth decimal is seen.
TEST(PolynomialSchedule, AWrongDigitMissesThem) {
  for (const Row& row : kTable) {
    const PolynomialSchedule right = polynomial_schedule(row.name, row.steps);
    for (size_t t = 0; t < right.coefficients.size(); ++t)
      for (size_t k = 0; k < 3; ++k) {
        PolynomialSchedule wrong = right;
        wrong.coefficients[t][k] += 1e-4;
        EXPECT_GT(error(wrong, row), 1e-9) << row.name << " " << t << " " << k;
      }
  }
}

TEST(PolynomialSchedule, KeepsThePublishedStepsAndMargins) {
  const auto expect = [](const char* name, size_t steps, double margin, Preconditioner preconditioner) {
    const PolynomialSchedule schedule = polynomial_schedule(name);
    EXPECT_EQ(schedule.name, name);
    EXPECT_EQ(schedule.coefficients.size(), steps) << name;
    EXPECT_EQ(schedule.norm_margin, margin) << name;
    EXPECT_EQ(schedule.preconditioner, preconditioner) << name;
    EXPECT_FALSE(schedule.source.empty()) << name;
  };
  constexpr auto none = Preconditioner::none, aol = Preconditioner::aol;
  expect("quintic", 5, 1, none);
  expect("cubic", 15, 1, none);
  expect("you", 5, 1, none);
  expect("modded", 5, 1.02, none);
  expect("polar_express", 5, 1.01, none);
  expect("gram105", 5, 1, none);
  expect("aol_a", 4, 1, aol);
  expect("aol_b", 4, 1, aol);
  expect("deepseek_v4", 10, 1, none);
  expect("cubic5", 5, 1, none);
  expect("cans", 5, 1, none);
  EXPECT_EQ(polynomial_schedule_names().size(), 11u);
}

TEST(PolynomialSchedule, StaysInItsBand) {
  for (const std::string& name : polynomial_schedule_names())
    for (const int steps : {0, 1, 3}) {
      const PolynomialSchedule schedule = polynomial_schedule(name, steps);
      double low = INFINITY, high = 0;
      for (int i = 0; i <= 100000; ++i)
        // Evenly on a log scale, and ever closer to 1, where some compositions are steepest.
        for (const double s : {std::pow(10.0, -2.0 * i / 100000), 1 - 0.99 * std::pow(10.0, -7.0 * i / 100000)}) {
          low = std::min(low, schedule(s));
          high = std::max(high, schedule(s));
        }
      EXPECT_GE(low, schedule.band[0] - 1e-12) << name << " " << steps;
      EXPECT_LE(high, schedule.band[1] + 1e-12) << name << " " << steps;
      EXPECT_LT(low - schedule.band[0], 1.01e-4) << name << " " << steps << ": promises too little";
      EXPECT_LT(schedule.band[1] - high, 1.01e-4) << name << " " << steps << ": promises too little";
    }
}

TEST(PolynomialSchedule, DeepseekEndsAtOne) {
  const PolynomialSchedule schedule = polynomial_schedule("deepseek_v4");
  for (int i = 0; i <= 20000; ++i) {
    const double out = schedule(std::pow(10.0, -3.0 * i / 20000));
    EXPECT_GT(out, 1 - 1e-6);
    EXPECT_LT(out, 1.0006);
  }
}

TEST(PolynomialSchedule, TakesTheFirstRowsAndGoesOnWhereItsSourceDoes) {
  const auto rows = [](const char* name, int steps) { return polynomial_schedule(name, steps).coefficients; };
  EXPECT_EQ(rows("quintic", 7), Rows(7, {3.4445, -4.7750, 2.0315}));
  EXPECT_EQ(rows("cubic", 40), Rows(40, {1.5, -0.5, 0}));
  const Rows all = rows("modded", 0), three = rows("modded", 3);
  EXPECT_EQ(three, Rows(all.begin(), all.begin() + 3));
  const Rows express = rows("polar_express", 12);
  EXPECT_NEAR(express[6][0], 1.8750014808534479 / 1.01, 1e-15) << "the seventh row still has its margin";
  for (size_t t = 7; t < 12; ++t) EXPECT_EQ(express[t], (std::array<double, 3>{1.875, -1.25, 0.375})) << t;
  for (const char* name : {"you", "modded", "gram105", "aol_a", "aol_b", "deepseek_v4", "cubic5", "cans"}) {
    const int end = static_cast<int>(rows(name, 0).size());
    const std::string message = refusal([&] { polynomial_schedule(name, end + 1); });
    EXPECT_NE(message.find("1 to " + std::to_string(end) + " steps, got " + std::to_string(end + 1)), std::string::npos)
        << message;
  }
}

TEST(PolynomialSchedule, AnUnknownNameNamesTheNearest) {
  const std::string message = refusal([] { polynomial_schedule("qintic"); });
  EXPECT_NE(message.find("Did you mean 'quintic'?"), std::string::npos) << message;
  EXPECT_NE(message.find("'qintic'"), std::string::npos) << message;
  EXPECT_NE(refusal([] { polynomial_schedule(""); }), "");
}

TEST(PolynomialSchedule, HoldsTheRowsOfEveryGoldenFile) {
  int seen = 0;
  for (const auto& file : golden_files("optimizers")) {
    if (!case_name(file).starts_with("ortho_")) continue;
    const Value hyper = parse_json(load_safetensors_header(file).metadata.at("hyper"));
    const Value* given = hyper.find("coefficients");
    if (!given) continue;
    const auto& rows = given->as_array();
    const auto equals = [&](const std::string& name) {
      try {
        const PolynomialSchedule schedule = polynomial_schedule(name, static_cast<int>(rows.size()));
        for (size_t t = 0; t < rows.size(); ++t)
          for (size_t k = 0; k < 3; ++k)
            if (std::abs(rows[t].as_array()[k].as_real() - schedule.coefficients[t][k]) > 1e-13) return false;
        return true;
      } catch (const UsageError&) {
        return false;
      }
    };
    const auto names = polynomial_schedule_names();
    EXPECT_TRUE(std::any_of(names.begin(), names.end(), equals)) << case_name(file);
    ++seen;
  }
  EXPECT_GT(seen, 0);
}

// --- the check ---

TEST(CheckSchedule, AcceptsEveryRegisteredOneAtEveryLength) {
  for (const std::string& name : polynomial_schedule_names())
    for (size_t steps = 1; steps <= polynomial_schedule(name).coefficients.size(); ++steps)
      EXPECT_EQ(refusal([&] { check_schedule(polynomial_schedule(name, static_cast<int>(steps))); }), "");
  for (const char* name : {"quintic", "cubic", "polar_express"})
    EXPECT_EQ(refusal([&] { check_schedule(polynomial_schedule(name, 30)); }), "");
}

TEST(CheckSchedule, RefusesTheSetThatFlipsTheLargestSingularValue) {
  const std::string message = refusal([] { polynomial_schedule(kAolC); });
  // 4.0098 s - 7.0585 s^3 + 2.4635 s^5 crosses 0 at 0.8837.
  EXPECT_NE(message.find("step 1 takes 0.88"), std::string::npos) << message;
  EXPECT_NE(message.find(" to -0.00"), std::string::npos) << message;
  EXPECT_NE(message.find("aol_a"), std::string::npos) << message;
  PolynomialSchedule unchecked{.name = "c", .coefficients = kAolC};
  EXPECT_NEAR(unchecked(1), -.9935212262, 1e-9);
}

TEST(CheckSchedule, RefusesWhatDivergesOrFlipsLater) {
  EXPECT_NE(refusal([] { polynomial_schedule(Rows{{1.5, -0.5, 0}, {3, 2, 1}}); }).find("step 2 takes"),
            std::string::npos);
  EXPECT_NE(refusal([] { polynomial_schedule(Rows{{2, 0, 0}}); }).find("step 1 takes 1.0 to 2.0"), std::string::npos);
  // Positive on (0, 1] alone, not on (0, 1.2] where the first step ends.
  EXPECT_EQ(refusal([] { polynomial_schedule(Rows{{1.5, -1.2, 0}}); }), "");
  EXPECT_NE(refusal([] { polynomial_schedule(Rows{{1.2, 0, 0}, {1.5, -1.2, 0}}); }).find("step 2 takes 1.1"),
            std::string::npos);
  EXPECT_NE(refusal([] { polynomial_schedule(Rows{{NAN, 0, 0}}); }), "");
  EXPECT_NE(refusal([] { polynomial_schedule(Rows{{-1, 0, 0}}); }), "");
  EXPECT_NE(refusal([] { polynomial_schedule(Rows{}); }), "");
  for (const double margin : {0.5, 0.0, static_cast<double>(NAN), static_cast<double>(INFINITY)})
    EXPECT_NE(refusal([&] { polynomial_schedule(Rows{{1.5, -0.5, 0}}, margin); }), "") << margin;
}

TEST(PolynomialSchedule, ACallersOwnCoefficientsAreASchedule) {
  const PolynomialSchedule own = polynomial_schedule(polynomial_schedule("modded").coefficients, 1.02);
  EXPECT_EQ(own.band, polynomial_schedule("modded").band);
  EXPECT_EQ(own.norm_margin, 1.02);
  EXPECT_EQ(own(0.3), polynomial_schedule("modded")(0.3));
}

}  // namespace
}  // namespace schatten::testing
