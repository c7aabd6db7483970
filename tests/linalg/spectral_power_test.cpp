// U S^p V^T three ways against spectra that are known in float64.
#include <gtest/gtest.h>
#include <schatten/core/error.h>
#include <schatten/linalg/spectral_map.h>
#include <schatten/linalg/spectral_power.h>

#include <iostream>
#include <limits>
#include <map>

#include "linalg/support.h"
#include "support/golden.h"

namespace schatten::testing {
namespace {

using Method = std::function<Tensor(const Tensor&, double power)>;

const RationalPower& fitted(double power) {
  static std::map<double, RationalPower> all;
  const auto at = all.find(power);
  return at != all.end() ? at->second : all.emplace(power, fit_rational_power(power)).first->second;
}

const std::pair<const char*, Method> kMethods[] = {
    {"svd", spectral_power_svd}, {"eigh", spectral_power_eigh}, {"rational", [](const Tensor& x, double power) {
                                                                   return spectral_power_rational(x, fitted(power));
                                                                 }}};

bool is_rational(const std::string& method) { return method == "rational"; }

Tensor exact(const Known& matrix, double power) {
  return matrix.mapped([=](double s) { return std::pow(s, power); });
}

/// What the rational form promises: its scalar function of sigma / sigma_max, times sigma_max^p.
Tensor promised(const Known& matrix, const RationalPower& f) {
  const double top = matrix.sigma.front();
  return matrix.mapped([&](double s) { return std::pow(top, f.power) * f(s / top); });
}

// --- against spectra that the matrices were built from ---

struct Input {
  std::string name;
  Known matrix;
};

std::vector<Input> inputs(const Shape& s) {
  const auto scaled = [&](double by) {
    return known(s.rows, s.cols, [=](int64_t k, int64_t r) { return by * log_spaced(0.05)(k, r); });
  };
  return {{"gaussian", decomposed(gaussian({s.rows, s.cols}, 1))},
          {"log-spaced to 0.01", known(s.rows, s.cols, log_spaced(1e-2))},
          {"graded", known(s.rows, s.cols, graded())},
          {"rank one", known(s.rows, s.cols, rank_one())},
          {"flat, half rank", known(s.rows, s.cols, flat(0.5))},
          {"zero", known(s.rows, s.cols, flat(0))},
          {"tiny", scaled(1e-30)},
          {"huge", scaled(1e30)}};
}

TEST(SpectralPower, IsThePowerOfKnownSingularValues) {
  // eigh squares once; the rational form has its promised error and a scale that is a little off.
  const std::map<std::string, std::pair<double, double>> allowed = {// float64, float32
                                                                    {"svd", {1e-11, 3e-5}},
                                                                    {"eigh", {1e-8, 3e-5}},
                                                                    {"rational", {0.008, 0.008}}};
  for (const auto& [name, method] : kMethods)
    for (const double power : {0.0, 0.125, 0.5, 1.0}) {
      if (is_rational(name) && power == 1) continue;  // not defined there
      for (const Shape& shape : kShapes)
        for (const Input& input : inputs(shape)) {
          SCOPED_TRACE(std::string(name) + ", power " + std::to_string(power) + ", " + shape.name + ", " + input.name);
          const Tensor expected = exact(input.matrix, power), x = input.matrix.x();
          const Tensor out = method(x, power), out32 = method(x.to(at::kFloat), power);
          ASSERT_EQ(out.sizes(), x.sizes());
          ASSERT_EQ(out32.scalar_type(), at::kFloat);
          EXPECT_LT(relative_error(out, expected), allowed.at(name).first);
          EXPECT_LT(relative_error(out32, expected), allowed.at(name).second);
        }
    }
}

TEST(SpectralPower, PowerOneIsTheIdentity) {
  const Tensor x = gaussian({24, 40}, 2);
  EXPECT_LT(relative_error(spectral_power_svd(x, 1), x), 1e-13);
  EXPECT_LT(relative_error(spectral_power_eigh(x, 1), x), 1e-13);
}

TEST(SpectralPower, ZeroIsExactlyZero) {
  for (const auto& [name, method] : kMethods)
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
      const Tensor zero = at::zeros({2, 6, 9}, dtype);
      EXPECT_TRUE(at::equal(method(zero, 0), zero)) << name << " " << dtype;
      EXPECT_EQ(method(at::zeros({0, 4, 5}), 0.5).sizes(), at::IntArrayRef({0, 4, 5})) << name;
    }
}

TEST(SpectralPower, NoiseOfARankDeficientMatrixIsNotAmplified) {
  // A power of 0 would raise the rounding noise of the null space to 1.
  for (const auto& [name, method] : kMethods)
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat}) {
      const Known matrix = known(64, 96, flat(0.25));
      EXPECT_LT(relative_error(method(matrix.x().to(dtype), 0), exact(matrix, 0)), is_rational(name) ? 0.008 : 1e-4)
          << name << " " << dtype;
    }
}

TEST(SpectralPower, NaNAndInfinityFillTheirMatrixAndNoOther) {
  for (const auto& [name, method] : kMethods)
    for (const double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY), -static_cast<double>(INFINITY)})
      for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
        const Tensor x = gaussian({2, 6, 9}, 3, dtype);
        x[1][5][0] = bad;
        const Tensor out = method(x, 0.5);
        EXPECT_TRUE(all_nan(out[1])) << name << " " << bad << " " << dtype;
        EXPECT_TRUE(out[0].isfinite().all().item<bool>()) << name << " " << bad << " " << dtype;
      }
}

TEST(SpectralPower, LeadingDimensionsAreIndependentMatrices) {
  for (const auto& [name, method] : kMethods)
    for (const auto& shape : std::vector<std::vector<int64_t>>{{3, 12, 20}, {2, 3, 20, 12}}) {
      const Tensor x = gaussian(shape, 4), before = x.clone(), out = method(x, 0.125);
      ASSERT_EQ(out.sizes(), x.sizes());
      const Tensor singles = x.reshape({-1, shape[shape.size() - 2], shape.back()}),
                   outs = out.reshape(singles.sizes());
      for (int64_t i = 0; i < singles.size(0); ++i)
        EXPECT_TRUE(at::equal(outs[i], method(singles[i], 0.125))) << name << i;
      EXPECT_TRUE(at::equal(x, before)) << name;
      EXPECT_FALSE(out.is_alias_of(x)) << name;
    }
}

TEST(SpectralPower, HalfTypesComputeInFloat32) {
  for (const auto& [name, method] : kMethods)
    for (const at::ScalarType dtype : {at::kBFloat16, at::kHalf}) {
      const Tensor x = gaussian({24, 40}, 5, dtype), out = method(x, 0.125);
      EXPECT_EQ(out.scalar_type(), dtype) << name;
      EXPECT_TRUE(at::equal(out, method(x.to(at::kFloat), 0.125).to(dtype))) << name;
    }
}

TEST(SpectralPower, RefusesVectors) {
  for (const auto& [name, method] : kMethods) EXPECT_THROW(method(at::ones({5}), 0), c10::Error) << name;
}

// --- symmetries ---

TEST(SpectralPower, CommutesWithRotationsAndTransposition) {
  for (const auto& [name, method] : kMethods)
    for (const double power : {0.0, 0.125, 0.5})
      for (const Shape& shape : kShapes) {
        SCOPED_TRACE(std::string(name) + ", power " + std::to_string(power) + ", " + shape.name);
        const Tensor g = gaussian({shape.rows, shape.cols}, 6), f = method(g, power);
        const Tensor q = orthonormal(shape.rows, shape.rows, 7), r = orthonormal(shape.cols, shape.cols, 8);
        // The rational form estimates its scale by power iteration, which sees the basis.
        const double allowed = is_rational(name) ? 5e-3 : 1e-9;
        EXPECT_LT(relative_error(method(q.mm(g).mm(r), power), q.mm(f).mm(r)), allowed);
        EXPECT_LT(relative_error(method(g.mT(), power), f.mT()), shape.rows == shape.cols ? allowed : 1e-12);
      }
}

TEST(SpectralPower, ScaleComesOutAsItsPower) {
  const Tensor g = gaussian({24, 40}, 9);
  for (const auto& [name, method] : kMethods)
    for (const double power : {0.0, 0.125, 0.5}) {
      SCOPED_TRACE(std::string(name) + ", power " + std::to_string(power));
      const auto error = [&](const Tensor& x, double c) {
        return relative_error(method(x * c, power).to(at::kDouble),
                              method(x, power).to(at::kDouble) * std::pow(c, power));
      };
      for (const double c : {1e-12, 3.0, 1e12}) EXPECT_LT(error(g, c), 1e-9) << c;
      // Squares of these leave the range of float32.
      for (const double c : {0x1p-80, 0x1p80}) EXPECT_LT(error(g.to(at::kFloat), c), 1e-5) << c;
    }
}

// --- the fit ---

TEST(RationalFit, PromisesWhatADenseScanFinds) {
  for (const double power : {0.0, 0.125, 0.25, 0.5, 0.9})
    for (const auto& [interval, poles] : {std::pair{5e-3, 4}, std::pair{1e-2, 3}, std::pair{2e-3, 5}}) {
      const RationalPower f = fit_rational_power(power, interval, poles);
      SCOPED_TRACE(std::to_string(power) + ", " + std::to_string(interval) + ", " + std::to_string(poles));
      double worst = 0;
      for (int i = 0; i <= 20000; ++i) {
        const double sigma = std::pow(interval, 1 - i / 20000.0);
        worst = std::max(worst, std::abs(f(sigma) / std::pow(sigma, power) - 1));
      }
      EXPECT_GE(worst, 0.999 * f.error);
      EXPECT_LE(worst, 1.01 * f.error);  // the fit looks at 600 points only
      ASSERT_EQ(f.shifts.size(), static_cast<size_t>(poles));
      ASSERT_EQ(f.weights.size(), static_cast<size_t>(poles));
      for (const double s : f.shifts) EXPECT_GT(s, 0);
      for (const double w : f.weights) EXPECT_GT(w, 0);
      EXPECT_GT(f.constant, 0);
      EXPECT_EQ(f.power, power);
      EXPECT_EQ(f.interval, interval);
    }
}

TEST(RationalFit, ErrorsAreThoseOfTheReferenceFit) {
  struct Row {
    double power, interval;
    int poles;
    double error, smallest_shift;
  };
  // A reference implementation (scipy's least_squares in the same Lawson loop).
  constexpr Row kTable[] = {{0, 1e-2, 3, 1.3609e-2, 9.418923e-5},     {0, 5e-3, 4, 5.7659e-3, 1.669129e-5},
                            {0, 5e-3, 6, 2.7731e-4, 7.227529e-6},     {0.125, 5e-3, 4, 5.5856e-3, 1.972080e-5},
                            {0.125, 2e-3, 4, 1.3413e-2, 4.423822e-6}, {0.125, 1e-3, 6, 2.0896e-3, 5.653066e-7},
                            {0.25, 5e-3, 4, 5.2035e-3, 2.301467e-5},  {0.5, 5e-3, 4, 3.9137e-3, 3.047009e-5},
                            {0.5, 1e-2, 5, 3.1844e-4, 5.669436e-5}};
  for (const Row& row : kTable) {
    const RationalPower f = fit_rational_power(row.power, row.interval, row.poles);
    const double shift = *std::min_element(f.shifts.begin(), f.shifts.end());
    SCOPED_TRACE(std::to_string(row.power) + ", " + std::to_string(row.interval) + ", " + std::to_string(row.poles));
    EXPECT_LT(f.error / row.error, 1.02);
    EXPECT_GT(f.error / row.error,
              0.92);  // 25 Lawson rounds end a little above the minimum: so does the reference
    EXPECT_NEAR(shift / row.smallest_shift, 1, 0.05);
  }
}

TEST(RationalFit, IsMonotoneFallsLinearlyBelowAndStaysBoundedAbove) {
  for (const double power : {0.0, 0.125, 0.5}) {
    const RationalPower& f = fitted(power);
    double before = 0;
    for (int i = 0; i <= 4000; ++i) {
      const double now = f(std::pow(10.0, -6 + 6.2 * i / 4000));
      EXPECT_GT(now, before * (1 - 4 * f.error)) << power << " " << i;  // it ripples by its own error
      before = std::max(before, now);
    }
    EXPECT_NEAR(f(1e-7) / f(1e-8), 10, 1e-3);
    EXPECT_LT(f(1.3) / std::pow(1.3, power), 1.1);  // a scale that is too small does little harm
  }
}

TEST(RationalFit, RefusesWhatItCannotFit) {
  for (const double power : {-0.1, 1.0, static_cast<double>(NAN)})
    EXPECT_THROW(fit_rational_power(power), UsageError) << power;
  for (const double interval : {0.0, 1.0, -1.0, static_cast<double>(NAN)})
    EXPECT_THROW(fit_rational_power(0.5, interval), UsageError) << interval;
  EXPECT_THROW(fit_rational_power(0.5, 5e-3, 0), UsageError);
}

// --- the matrix form against its promise, and its guard ---

TEST(RationalMatrix, IsItsScalarFunctionOnSingularValues) {
  for (const double power : {0.0, 0.125, 0.5})
    for (const auto& [name, spectrum] : {std::pair<const char*, Spectrum>{"graded", graded()},
                                         {"log-spaced to 1e-5", log_spaced(1e-5)},
                                         {"half rank", flat(0.5)}}) {
      const Known matrix = known(96, 128, spectrum);
      const Tensor expected = promised(matrix, fitted(power));
      EXPECT_LT(relative_error(spectral_power_rational(matrix.x(), fitted(power)), expected), 6e-3)
          << name << " " << power;
      EXPECT_LT(relative_error(spectral_power_rational(matrix.x().to(at::kFloat), fitted(power)), expected), 1e-2)
          << name << " " << power;
    }
}

/// The power iteration starts from one fixed vector: no direction of the input may hide from it.
TEST(RationalMatrix, ScaleIsFoundWhereTheStartLooksAway) {
  const Tensor ones = at::ones({8, 1}, at::kDouble) / std::sqrt(8.0);
  const Tensor away = at::tensor({1., -1., 1., -1., 1., -1., 1., -1.}, at::kDouble).unsqueeze(1) / std::sqrt(8.0);
  const Tensor other = at::tensor({1., 1., -1., -1., 1., 1., -1., -1.}, at::kDouble).unsqueeze(1) / std::sqrt(8.0);
  for (const double top : {1.0, 4.0, 30.0}) {
    // Rows of equal norm: the diagonal is constant, an eigenvector, and not the leading one.
    Known matrix{at::cat({away, ones, other}, 1), orthonormal(12, 3, 11), {top, 1.0, 0.5}};
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat})
      EXPECT_LT(relative_error(spectral_power_rational(matrix.x().to(dtype), fitted(0.125)), exact(matrix, 0.125)),
                0.01)
          << top << " " << dtype;
  }
}

/// One pole, with a shift of which float32 may see nothing.
RationalPower with_shift(double shift) {
  return {.power = 0, .interval = 1e-4, .shifts = {shift}, .weights = {1e-3}, .constant = 0.9};
}

TEST(RationalMatrix, TheRecommendedShiftNeedsNoGuard) {
  for (const double power : {0.0, 0.125})
    for (const auto& spectrum : {flat(0.125), flat(0.5), flat(0.9), rank_one(), graded(), log_spaced(1e-6)}) {
      RationalReport report;
      const Tensor x = known(256, 320, spectrum).x().to(at::kFloat);
      EXPECT_TRUE(spectral_power_rational(x, fitted(power), &report).isfinite().all().item<bool>());
      EXPECT_EQ(report.shift_raises, 0);
      EXPECT_EQ(report.eigh_fallbacks, 0);
    }
}

TEST(RationalMatrix, ARaisedShiftIsCountedAndTheResultStaysSound) {
  const Known matrix = known(256, 320, flat(0.5));
  RationalReport report;
  const Tensor out = spectral_power_rational(matrix.x().to(at::kFloat), with_shift(2e-7), &report);
  std::cout << "    " << report.shift_raises << " raises\n";
  EXPECT_GE(report.shift_raises, 1);
  EXPECT_LE(report.shift_raises, 3);
  EXPECT_EQ(report.eigh_fallbacks, 0);
  EXPECT_LT(relative_error(out, promised(matrix, with_shift(2e-7))), 0.02);
}

TEST(RationalMatrix, WhereNoShiftHelpsEigenvaluesDecide) {
  const Known matrix = known(256, 320, flat(0.5));
  RationalReport report;
  const Tensor x = matrix.x().to(at::kFloat), out = spectral_power_rational(x, with_shift(1e-12), &report);
  EXPECT_EQ(report.shift_raises, 3);
  EXPECT_EQ(report.eigh_fallbacks, 1);
  EXPECT_TRUE(at::equal(out, spectral_power_eigh(x, 0)));
}

TEST(RationalMatrix, AVerySmallIntervalIsGuardedToo) {
  const RationalPower sharp = fit_rational_power(0, 1e-4, 4);
  const Known matrix = known(256, 320, flat(0.9));
  RationalReport report;
  const Tensor out = spectral_power_rational(matrix.x().to(at::kFloat), sharp, &report);
  EXPECT_GT(report.shift_raises, 0);
  EXPECT_LT(relative_error(out, exact(matrix, 0)), sharp.error + 0.01);
}

// --- momentum recorded while training: a few directions dominate ---

struct Recorded {
  std::string file, name;
  Tensor x;
};

std::vector<Recorded> recorded() {
  std::vector<Recorded> all;
  for (const auto& file : golden_files("momentum"))
    for (const auto& [name, x] : load_safetensors(file).tensors)
      if (x.dim() == 2) all.push_back({case_name(file), name, x});
  return all;
}

/// Errors against the exact map, with a tenth to spare: what lies below l of the largest is cut.
struct Measured {
  std::string file, name;
  double polar, eighth;
};
const std::vector<Measured> kMeasured = {{"step_020", "wq", 0.57, 0.43},       {"step_020", "wv", 0.76, 0.56},
                                         {"step_020", "up", 0.45, 0.34},       {"step_150", "wq", 0.35, 0.22},
                                         {"step_150", "up", 0.0045, 0.0045},   {"step_290", "wv", 0.32, 0.20},
                                         {"step_290", "down", 0.0045, 0.0045}, {"step_290", "down_left", 0.13, 0.067}};

TEST(RecordedMomentum, ExactMethodsAreExact) {
  const auto matrices = recorded();
  ASSERT_FALSE(matrices.empty()) << "no momentum in " << golden_folder();
  for (const Recorded& m : matrices) {
    Known matrix = decomposed(m.x);
    // What float32 cannot tell from 0 maps to 0: up to twelve of 192 values, early in the run.
    const double floor = static_cast<double>(std::numeric_limits<float>::epsilon()) *
                         static_cast<double>(std::max(m.x.size(0), m.x.size(1))) * matrix.sigma.front();
    for (double& s : matrix.sigma) s = s > floor ? s : 0;
    for (const double power : {0.0, 0.125, 0.5}) {
      const Tensor expected = exact(matrix, power);
      const double svd = relative_error(spectral_power_svd(m.x, power), expected);
      const double eigh = relative_error(spectral_power_eigh(m.x, power), expected);
      std::cout << "    " << m.file << " " << m.name << " power " << power << ": svd " << svd << ", eigh " << eigh
                << "\n";
      EXPECT_LT(svd, 1e-3) << m.file << " " << m.name << " " << power;
      EXPECT_LT(eigh, 1e-6) << m.file << " " << m.name << " " << power;
    }
  }
}

TEST(RecordedMomentum, RationalErrsByItsCutAndByNothingElse) {
  for (const Recorded& m : recorded()) {
    const Known matrix = decomposed(m.x);
    for (const double power : {0.0, 0.125}) {
      RationalReport report;
      const Tensor out = spectral_power_rational(m.x, fitted(power), &report);
      const double error = relative_error(out, exact(matrix, power)),
                   own = relative_error(out, promised(matrix, fitted(power)));
      std::cout << "    " << m.file << " " << m.name << " power " << power << ": " << error << " of the exact map, "
                << own << " of its own scalar function\n";
      EXPECT_LT(own, 0.01) << m.file << " " << m.name << " " << power;
      EXPECT_EQ(report.shift_raises, 0) << m.file << " " << m.name;
      for (const Measured& known : kMeasured) {
        if (known.file != m.file || known.name != m.name) continue;
        EXPECT_LT(error, power == 0 ? known.polar : known.eighth) << m.file << " " << m.name << " " << power;
      }
    }
  }
}

}  // namespace
}  // namespace schatten::testing
