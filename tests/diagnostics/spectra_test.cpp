// What summaries and fits do at their edges.
#include <ATen/ATen.h>
#include <gtest/gtest.h>
#include <schatten/core/rng.h>
#include <schatten/diagnostics/spectra.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace schatten::testing {
namespace {

Tensor gaussian(int64_t rows, int64_t cols, at::ScalarType dtype = at::kDouble) {
  return Rng(29).of("spectra").normal({rows, cols}, dtype);
}

std::vector<double> power_law(int n, double exponent) {
  std::vector<double> values;
  for (int k = 1; k <= n; ++k) values.push_back(std::pow(k, -exponent));
  return values;
}

std::vector<double> numbers(const SpectralSummary& s) {
  return {s.frobenius_norm,      s.rms,  s.sigma_max, s.sigma_median, s.sigma_min, s.stable_rank, s.effective_rank,
          s.participation_ratio, s.slope};
}

TEST(Summary, OfAnOrthogonalMatrixIsKnown) {
  const Tensor q = std::get<0>(at::linalg_qr(gaussian(24, 8)));
  const SpectralSummary s = summarize_spectrum(q * 3);
  EXPECT_EQ(s.rows, 24);
  EXPECT_EQ(s.cols, 8);
  EXPECT_NEAR(s.frobenius_norm, 3 * std::sqrt(8.0), 1e-12);
  EXPECT_NEAR(s.rms, 3 / std::sqrt(24.0), 1e-12);
  for (const double sigma : {s.sigma_max, s.sigma_median, s.sigma_min}) EXPECT_NEAR(sigma, 3, 1e-12);
  for (const double rank : {s.stable_rank, s.effective_rank, s.participation_ratio}) EXPECT_NEAR(rank, 8, 1e-11);
  EXPECT_NEAR(s.slope, 0, 1e-12);
}

TEST(Summary, FindsTheExponentOfAPowerLaw) {
  const SpectralSummary s = summarize_spectrum(at::diag(at::tensor(power_law(40, 0.7), at::kDouble)));
  EXPECT_NEAR(s.slope, 0.7, 1e-12);
  EXPECT_TRUE(std::is_sorted(s.singular_values.rbegin(), s.singular_values.rend()));
  EXPECT_NEAR(s.sigma_median, (std::pow(20, -0.7) + std::pow(21, -0.7)) / 2, 1e-14);
}

TEST(Summary, OfARankOneMatrix) {
  const SpectralSummary s = summarize_spectrum(gaussian(6, 1).mm(gaussian(1, 5)));
  for (const double rank : {s.stable_rank, s.effective_rank, s.participation_ratio}) EXPECT_NEAR(rank, 1, 1e-12);
}

TEST(Summary, TransposeChangesTheShapeOnly) {
  const SpectralSummary a = summarize_spectrum(gaussian(12, 20)), b = summarize_spectrum(gaussian(12, 20).mT());
  EXPECT_EQ(b.rows, 20);
  const auto x = numbers(a), y = numbers(b);
  for (size_t i = 0; i < x.size(); ++i) EXPECT_NEAR(x[i], y[i], 1e-12 * std::abs(x[i])) << i;
}

TEST(Summary, NaNAndInfinityGiveNaNNotAnException) {
  for (const double bad : {static_cast<double>(NAN), static_cast<double>(INFINITY)})
    for (const at::ScalarType dtype : {at::kDouble, at::kFloat, at::kBFloat16}) {
      const Tensor x = gaussian(6, 9, dtype);
      x[2][3] = bad;
      const SpectralSummary s = summarize_spectrum(x);
      EXPECT_TRUE(s.singular_values.empty());
      for (const double v : numbers(s)) EXPECT_TRUE(std::isnan(v));
      EXPECT_EQ(s.rows, 6);
      EXPECT_FALSE(fit_power_law_hill(s.singular_values, 1).enough);
      EXPECT_FALSE(fit_power_law_shuffled(x, 1, 1).enough);
      EXPECT_TRUE(to_value(s).at("singular_values").as_array().empty());
    }
}

TEST(Summary, OfZeroHasNoRankAndNoNaN) {
  const SpectralSummary s = summarize_spectrum(at::zeros({5, 7}));
  for (const double v : numbers(s)) EXPECT_EQ(v, 0);
  EXPECT_EQ(s.singular_values.size(), 5u);
  EXPECT_FALSE(fit_power_law_hill(s.singular_values, 1).enough);
}

TEST(Summary, ThreeValuesAreTooFewForASlope) {
  EXPECT_TRUE(std::isnan(summarize_spectrum(gaussian(3, 8)).slope));
  EXPECT_TRUE(std::isfinite(summarize_spectrum(gaussian(4, 8)).slope));
}

TEST(Hill, IsWhatTheFormulaSays) {
  // lambda = 1, 2, 4, 8: x_min is the third, two in the tail, alpha = 1 + 2 / ln 2.
  const PowerLawFit fit = fit_power_law_hill({1, std::sqrt(2.0), 2, std::sqrt(8.0)}, 4);
  EXPECT_TRUE(fit.enough);
  EXPECT_NEAR(fit.x_min, 4, 1e-14);
  EXPECT_EQ(fit.tail, 2);
  EXPECT_EQ(fit.eigenvalues, 4);
  EXPECT_NEAR(fit.alpha, 1 + 2 / std::log(2.0), 1e-13);
  EXPECT_NEAR(fit.distance, std::abs(1 - std::pow(2.0, -2 / std::log(2.0)) - 0.5), 1e-13);
}

TEST(Hill, OfAnOddNumberHasTheLongerHalfAsItsTail) {
  const PowerLawFit fit = fit_power_law_hill({1, std::sqrt(2.0), 2}, 3);
  EXPECT_NEAR(fit.x_min, 2, 1e-14);
  EXPECT_EQ(fit.tail, 2);
}

TEST(Hill, FewerThanFiftyEigenvaluesAreNotEnough) {
  const PowerLawFit few = fit_power_law_hill(power_law(49, 0.5)), many = fit_power_law_hill(power_law(50, 0.5));
  EXPECT_FALSE(few.enough);
  EXPECT_TRUE(std::isnan(few.alpha));
  EXPECT_TRUE(std::isnan(few.distance));
  EXPECT_EQ(few.eigenvalues, 49);
  EXPECT_EQ(few.tail, 0);
  EXPECT_TRUE(many.enough);
  EXPECT_TRUE(std::isfinite(many.alpha));
  EXPECT_TRUE(fit_power_law_hill(power_law(49, 0.5), 49).enough);
}

TEST(Hill, SpectraWithoutATailAreNotEnough) {
  EXPECT_FALSE(fit_power_law_hill({}).enough);
  EXPECT_FALSE(fit_power_law_hill({}, 0).enough);
  EXPECT_FALSE(fit_power_law_hill(std::vector<double>(60, 2.0)).enough);  // all equal: no logarithm to divide by
  std::vector<double> half_zero(60, 0.0);
  for (size_t i = 0; i < 20; ++i) half_zero[i] = static_cast<double>(i + 1);
  EXPECT_FALSE(fit_power_law_hill(half_zero).enough);  // x_min would be 0
}

TEST(Hill, NeitherOrderNorScaleMatters) {
  std::vector<double> values = power_law(80, 0.6), scaled = values;
  const PowerLawFit fit = fit_power_law_hill(values);
  for (double& v : scaled) v *= 1e-6;
  std::reverse(values.begin(), values.end());
  EXPECT_EQ(fit_power_law_hill(values).alpha, fit.alpha);
  EXPECT_NEAR(fit_power_law_hill(scaled).alpha, fit.alpha, 1e-10);
}

TEST(Shuffled, TheSameSeedGivesTheSameNumber) {
  const Tensor x = gaussian(64, 80, at::kFloat);
  const double one = fit_power_law_shuffled(x, 1).alpha;
  EXPECT_EQ(fit_power_law_shuffled(x, 1).alpha, one);
  std::set<double> others;
  for (const uint64_t seed : {1, 2, 3, 4}) others.insert(fit_power_law_shuffled(x, seed).alpha);
  EXPECT_EQ(others.size(), 4u);
}

/// One entry of 1e4 among signs: wherever it lands, lambda_1 is its square and lambda_2 about one
/// row of signs. Both can be read off the fit of three eigenvalues, so an entry that is lost or
/// doubled shows.
TEST(Shuffled, KeepsItsEntries) {
  const Tensor x = gaussian(3, 4000, at::kFloat).sign();
  x[1][17] = 1e4;
  const Tensor before = x.clone();
  for (uint64_t seed = 0; seed < 12; ++seed) {
    const PowerLawFit fit = fit_power_law_shuffled(x, seed, 3);
    EXPECT_EQ(fit.eigenvalues, 3);
    EXPECT_EQ(fit.tail, 2);
    EXPECT_NEAR(fit.x_min * std::exp(2 / (fit.alpha - 1)) / 1e8, 1, 1e-3) << seed;
    EXPECT_NEAR(fit.x_min / 4000, 1, 0.1) << seed;
  }
  EXPECT_TRUE(at::equal(x, before));
}

TEST(Shuffled, DestroysStructureAndReadsAnyLayout) {
  const Tensor low = gaussian(80, 2).mm(gaussian(2, 80)) + 0.01 * gaussian(80, 80);
  const double plain = fit_power_law_hill(summarize_spectrum(low).singular_values).alpha;
  EXPECT_GT(std::abs(fit_power_law_shuffled(low, 1).alpha - plain), 0.1);
  EXPECT_EQ(fit_power_law_shuffled(low.mT().contiguous().mT(), 1).alpha, fit_power_law_shuffled(low, 1).alpha);
}

TEST(Record, ThinsToAtMostSoManyPointsOnALogScale) {
  const SpectralSummary s = summarize_spectrum(gaussian(300, 320));
  for (const int points : {1, 2, 8, 32, 1000}) {
    const Value v = to_value(s, points);
    const auto& ranks = v.at("ranks").as_array();
    const auto& values = v.at("singular_values").as_array();
    ASSERT_EQ(ranks.size(), values.size());
    ASSERT_FALSE(ranks.empty()) << points;
    EXPECT_LE(ranks.size(), static_cast<size_t>(points));
    EXPECT_EQ(ranks.front().as_integer(), 1) << points;
    EXPECT_EQ(ranks.back().as_integer(), points > 1 ? 300 : 1) << points;
    for (size_t i = 0; i < ranks.size(); ++i) {
      const auto rank = static_cast<size_t>(ranks[i].as_integer());
      EXPECT_EQ(values[i].as_real(), s.singular_values.at(rank - 1));
      EXPECT_GT(ranks[i].as_integer(), i > 0 ? ranks[i - 1].as_integer() : 0);
    }
  }
  EXPECT_GT(to_value(s).at("ranks").as_array().size(), 20u);
}

TEST(Record, HasTheDocumentedKeys) {
  const Value s = to_value(summarize_spectrum(gaussian(6, 9)));
  for (const char* key : {"sigma_max", "sigma_median", "sigma_min", "frobenius_norm", "rms", "stable_rank",
                          "effective_rank", "participation_ratio", "slope", "ranks", "singular_values"})
    EXPECT_TRUE(s.find(key)) << key;
  const Value fit = to_value(fit_power_law_hill(power_law(60, 0.5)));
  EXPECT_TRUE(fit.at("enough").as_bool());
  EXPECT_EQ(fit.at("tail").as_integer(), 30);
  EXPECT_EQ(fit.at("eigenvalues").as_integer(), 60);
  const std::string none = to_json(to_value(fit_power_law_hill({})));
  EXPECT_NE(none.find("\"alpha\":null"), std::string::npos) << none;
}

}  // namespace
}  // namespace schatten::testing
