// Exponents that are known beforehand; the authors' numbers are in diagnostics/ and parameters/.
#include <schatten/core/error.h>
#include <schatten/linalg/power_law.h>

#include <numeric>

#include "linalg/support.h"

namespace schatten::testing {
namespace {

/// lambda_k = k^(-2 s), k = 1 .. n.
std::vector<double> power_law(int n, double s) {
  std::vector<double> lambda;
  for (int k = 1; k <= n; ++k) lambda.push_back(std::pow(k, -2 * s));
  return lambda;
}

/// Quantiles of density lambda^-alpha from x_min on.
std::vector<double> quantiles(int n, double alpha, double x_min) {
  std::vector<double> lambda;
  for (int k = 0; k < n; ++k) lambda.push_back(x_min * std::pow(1 - (k + 0.5) / n, -1 / (alpha - 1)));
  return lambda;
}

/// Closed-form spectra as the published estimator sees them; "above 1e-5" keeps 316 of the third.
TEST(PowerLaw, OfKnownSpectra) {
  const struct {
    double s;
    int n;
    double hill, distance, best;
  } known[] = {{0.25, 512, 3.029265, 0.005344, 3.015900},
               {0.5, 512, 2.014632, 0.005344, 2.007950},
               {1, 512, 1.507316, 0.005344, 1.506081},
               {0.5, 768, 2.010246, 0.003750, 2.005553}};
  for (const auto& k : known) {
    const auto lambda = power_law(k.n, k.s);
    const PowerLawFit hill = fit_power_law(lambda);
    EXPECT_NEAR(hill.alpha, k.hill, 1e-6) << k.s;
    EXPECT_NEAR(hill.distance, k.distance, 1e-6) << k.s;
    EXPECT_EQ(hill.tail, k.n / 2);
    EXPECT_NEAR(fit_power_law(lambda, {.start = TailStart::goodness_of_fit, .above = 1e-5}).alpha, k.best, 1e-6) << k.s;
  }
}

TEST(PowerLaw, GoodnessOfFitFindsWhereTheTailBegins) {
  std::vector<double> lambda = quantiles(300, 2.5, 4);
  for (int k = 0; k < 200; ++k) lambda.push_back(0.01 + 3.9 * k / 200);  // a flat body below the tail
  const PowerLawFit fit = fit_power_law(lambda, {.start = TailStart::goodness_of_fit});
  EXPECT_NEAR(fit.alpha, 2.5, 0.02);
  EXPECT_NEAR(fit.x_min, 4, 0.1);
  EXPECT_NEAR(static_cast<double>(fit.tail), 300, 5);
  EXPECT_EQ(fit.eigenvalues, 500);
  EXPECT_LT(fit.distance, fit_power_law(lambda).distance);
}

/// A tail from 1 on, a peak at 100 and fingers at 1e6: alone the tail fits best from its beginning. The window holds
/// the start near the peak; as published its lower end is log10 of that, about 2, which holds back a little.
TEST(PowerLaw, TheWindowLiesAroundThePeakUnlessALogarithmStandsThere) {
  std::vector<double> lambda;
  for (const double v : quantiles(1000, 2, 1))
    if (v < 99) lambda.push_back(v);
  for (int k = 0; k < 200; ++k) lambda.push_back(100 + 1e-4 * k);
  for (int k = 0; k < 25; ++k) lambda.push_back(1e6 + k);
  const auto start = [&](TailStart s) { return fit_power_law(lambda, {.start = s}).x_min; };
  EXPECT_LT(start(TailStart::goodness_of_fit), 1.1);
  EXPECT_GT(start(TailStart::fix_finger), 90);
  EXPECT_LT(start(TailStart::fix_finger), 150);
  EXPECT_GT(start(TailStart::fix_finger_as_published), 1.9);
  EXPECT_LT(start(TailStart::fix_finger_as_published), 2.3);
}

/// A perfect tail far above the peak wins unless starts end at 1.5 times the peak.
TEST(PowerLaw, AnUpperEndKeepsFingersFromBeingTheStart) {
  std::vector<double> lambda = quantiles(60, 2.5, 50);
  for (int k = 0; k < 100; ++k) lambda.push_back(1 + 5e-4 * k);
  EXPECT_GT(fit_power_law(lambda, {.start = TailStart::goodness_of_fit}).x_min, 49);
  for (const TailStart s : {TailStart::fix_finger, TailStart::fix_finger_as_published})
    EXPECT_LT(fit_power_law(lambda, {.start = s}).x_min, 1.6) << enum_name(s);
}

TEST(PowerLaw, EigenvaluesUpToAboveAreLeftOutUnlessNoneIsOver) {
  std::vector<double> lambda = power_law(60, 0.5), more = lambda;
  more.insert(more.end(), 30, 1e-9);
  const PowerLawFit fit = fit_power_law(more, {.above = 1e-5});
  EXPECT_EQ(fit.alpha, fit_power_law(lambda).alpha);
  EXPECT_EQ(fit.eigenvalues, 90);
  EXPECT_NE(fit_power_law(more).alpha, fit.alpha);
  EXPECT_EQ(fit_power_law(lambda, {.above = 1e9}).alpha, fit_power_law(lambda).alpha);
}

TEST(PowerLaw, WithoutATailThereIsNoAlpha) {
  for (const TailStart s :
       {TailStart::median, TailStart::goodness_of_fit, TailStart::fix_finger, TailStart::fix_finger_as_published}) {
    for (const auto& lambda :
         {std::vector<double>{}, {3.0}, std::vector<double>(60, 2.0), std::vector<double>(60, 0)}) {
      const PowerLawFit fit = fit_power_law(lambda, {.start = s, .minimum = 0});
      EXPECT_FALSE(fit.enough);
      EXPECT_TRUE(std::isnan(fit.alpha) && std::isnan(fit.distance));
      EXPECT_EQ(fit.eigenvalues, static_cast<int64_t>(lambda.size()));
    }
    EXPECT_FALSE(fit_power_law(power_law(49, 0.5), {.start = s}).enough);
    EXPECT_TRUE(fit_power_law(power_law(50, 0.5), {.start = s}).enough) << enum_name(s);
  }
}

TEST(Spectrum, IsThatOfTheGramMatrix) {
  const Known k = known(24, 40, graded());
  const auto lambda = eigenvalue_spectrum(k.x());
  ASSERT_EQ(lambda.size(), 24u);
  for (size_t i = 0; i < 24; ++i) EXPECT_NEAR(lambda[i], k.sigma[23 - i] * k.sigma[23 - i], 1e-14);
  EXPECT_EQ(eigenvalue_spectrum(k.x().to(at::kBFloat16)), eigenvalue_spectrum(k.x().to(at::kBFloat16).to(at::kFloat)));
  EXPECT_TRUE(std::is_sorted(lambda.begin(), lambda.end()));
}

/// kh kw slices, each times sqrt(1/2): the pooled eigenvalues add up to half of |W|_F^2.
TEST(Spectrum, PoolsTheSlicesOfConvolutions) {
  const Tensor w = gaussian({6, 5, 2, 3}, 5);
  const auto lambda = eigenvalue_spectrum(w);
  EXPECT_EQ(lambda.size(), 30u);
  EXPECT_TRUE(std::is_sorted(lambda.begin(), lambda.end()));
  EXPECT_NEAR(std::accumulate(lambda.begin(), lambda.end(), 0.0), 0.5 * w.square().sum().item<double>(), 1e-12);
  const double one = eigenvalue_spectrum(w.select(3, 1).select(2, 0)).back();
  EXPECT_TRUE(std::any_of(lambda.begin(), lambda.end(), [&](double v) { return std::abs(v - one / 2) < 1e-13; }));
}

TEST(Spectrum, OfNaNIsEmptyAndOfAVectorAnError) {
  Tensor w = gaussian({6, 5, 2, 3}, 5);
  w[1][2][0][1] = NAN;
  EXPECT_TRUE(eigenvalue_spectrum(w).empty());
  EXPECT_TRUE(std::isnan(summarize_tail({}).entropy));
  EXPECT_THROW(eigenvalue_spectrum(at::zeros({5})), UsageError);
}

TEST(TailSummary, OfFlatAndOfOneSidedSpectra) {
  const TailSummary flat = summarize_tail(std::vector<double>(64, 0.25));
  EXPECT_EQ(flat.largest, 0.25);
  EXPECT_EQ(flat.sum, 16);
  EXPECT_EQ(flat.stable_rank, 64);
  EXPECT_NEAR(flat.entropy, 1, 5e-3);
  std::vector<double> lone(64, 0.0);
  lone[5] = 9;
  lone[6] = 9;
  const TailSummary two = summarize_tail(lone);
  EXPECT_EQ(two.stable_rank, 2);
  EXPECT_NEAR(two.entropy, 1, 6e-2);  // ln 2 over ln of rank 2, beside 62 crumbs of 6e-5
}

TEST(TailSummary, AlphaHatIsASoftplus) {
  EXPECT_NEAR(alpha_hat(3, 1), std::log(2), 1e-15);
  EXPECT_NEAR(alpha_hat(2, 100), std::log1p(std::exp(4)), 1e-14);
  EXPECT_NEAR(alpha_hat(2, 0.01), std::log1p(std::exp(-4)), 1e-16);
  EXPECT_EQ(alpha_hat(1000, 10), 1000);
}

}  // namespace
}  // namespace schatten::testing
