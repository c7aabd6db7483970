// Every engine of newton_schulz, on every instruction set of this CPU, against the scalar schedule on the singular values
// of the float64 SVD.
#include <schatten/core/fields.h>
#include <schatten/linalg/polar.h>

#include <cstdio>
#include <iostream>

#include "linalg/support.h"

namespace schatten::testing {
namespace {

constexpr int64_t kRows = 96, kCols = 258;

/// Moving averages of low-rank gradients with noise: a few large directions above a floor.
Known momentum_like() {
  Tensor m = at::zeros({kRows, kCols}, at::kDouble);
  for (int64_t t = 0; t < 30; ++t)
    m = 0.95 * m + at::mm(gaussian({kRows, 16}, 3 * t + 400), gaussian({16, kCols}, 3 * t + 401)) +
        0.1 * gaussian({kRows, kCols}, 3 * t + 402);
  return decomposed(m);
}

struct Named {
  std::string name;
  Known matrix;
};

std::vector<Named> six_spectra() {
  const auto power = [](double p) {
    return [p](int64_t k, int64_t) { return std::pow(static_cast<double>(k + 1), -p); };
  };
  return {{"Gaussian", decomposed(gaussian({kRows, kCols}, 300))},
          {"momentum", momentum_like()},
          {"1/k", known(kRows, kCols, power(1), 3)},
          {"1/sqrt k", known(kRows, kCols, power(0.5), 4)},
          {"1 to 1e-4", known(kRows, kCols, log_spaced(1e-4), 5)},
          {"rank n/8", known(kRows, kCols, [](int64_t k, int64_t r) { return k < r / 8 ? 1.0 : 1e-9; }, 6)}};
}

struct Engine {
  PolarIteration iteration;
  at::ScalarType dtype;
  bool split;
  Isa isa;
  std::string name(const PolarPlan& plan) const { return plan.describe() + " (" + std::string(enum_name(isa)) + ")"; }
};

std::vector<Engine> engines() {
  std::vector<Engine> all;
  for (const Isa isa : available_isas())
    for (const PolarIteration iteration : {PolarIteration::triangle, PolarIteration::gram}) {
      all.push_back({iteration, at::kFloat, false, isa});
      if (isa == Isa::amx_bf16) all.push_back({iteration, at::kFloat, true, isa});
      if (isa != Isa::portable) all.push_back({iteration, at::kBFloat16, false, isa});
    }
  return all;
}

TEST(PolarEngines, AreAccurateForEveryScheduleOnSixSpectra) {
  const std::vector<Named> spectra = six_spectra();
  for (const std::string& name : polynomial_schedule_names()) {
    const PolynomialSchedule schedule = polynomial_schedule(name);
    NewtonSchulzOptions o{.schedule = schedule, .rounding = QuinticRounding::fused, .restarts = {}};
    for (const Named& s : spectra) {
      o.iteration = PolarIteration::textbook;
      const Tensor x = s.matrix.x(), expected = newton_schulz(x, o);
      const double half = relative_error(newton_schulz(x.to(at::kBFloat16), o), expected);
      const double single = relative_error(newton_schulz(x.to(at::kFloat), o), expected);
      for (const Engine& e : engines()) {
        o.iteration = e.iteration;
        o.split_bfloat16 = e.split;
        const PolarPlan plan = plan_polar(kRows, kCols, e.dtype, o, e.isa);
        const double error = relative_error(newton_schulz(x.to(at::kFloat), o, e.isa, e.dtype), expected);
        if (name == "quintic")
          std::printf("    %-12s %-60s %.1e (bfloat16 textbook %.1e)\n", s.name.c_str(), e.name(plan).c_str(), error,
                      half);
        // Ten steps of slope 3.4 at 0 (deepseek_v4) cost the textbook its digits, too.
        const double allowed = e.split                 ? std::max(1e-3, half / 20)
                               : e.dtype == at::kFloat ? std::max(1e-3, 1.5 * single)
                               : name == "quintic"     ? 1.5 * half
                                                       : 3 * half;
        EXPECT_LT(error, allowed) << name << ", " << s.name << ", " << e.name(plan);
      }
    }
  }
}

}  // namespace
}  // namespace schatten::testing
