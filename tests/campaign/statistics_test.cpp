// Against scipy.stats 1.17: t, ttest_rel, ttest_ind(equal_var=False).
#include <gtest/gtest.h>
#include <schatten/campaign/statistics.h>

#include <array>
#include <cmath>
#include <limits>

namespace schatten::testing {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

const std::vector<double> kA = {3.10, 3.25, 2.98, 3.17, 3.31}, kB = {3.02, 3.21, 2.99, 3.05, 3.20},
                          kC = {2.5, 2.7, 2.9};

void expect_close(double got, double expected, double rtol) {
  EXPECT_LE(std::abs(got - expected), rtol * std::abs(expected)) << got << " for " << expected;
}

constexpr double kT[] = {-12.5, -2, -0.3, 0, 0.7, 1.96, 6};
constexpr double kProbability[] = {0.001, 0.2, 0.5, 0.8, 0.975, 0.9995};

struct Row {
  double freedom;
  std::array<double, 7> cdf;
  std::array<double, 6> quantile;
};
constexpr Row kTable[] = {
    {1,
     {0.025410673666115897, 0.14758361765043326, 0.4072264209222577, 0.5, 0.6944001122142147, 0.8498285541119834,
      0.9474315432887466},
     {-318.30883898555044, -1.3763819204711736, 0, 1.3763819204711738, 12.706204736174694, 636.6192487687897}},
    {2.5,
     {0.0012821922709539315, 0.07869574787898295, 0.39367118574759863, 0.5, 0.728297528405226, 0.918526217763593,
      0.9923591350572385},
     {-13.822193110865964, -1.0101638747222506, 0, 1.0101638747222512, 3.5746548420036817, 18.277893528131457}},
    {3,
     {0.0005518156655480292, 0.06966298427942152, 0.3918816460199595, 0.5, 0.7328365008476182, 0.9275738957175732,
      0.9953636425538577},
     {-10.214531852407385, -0.9784723123633038, 0, 0.9784723123633042, 3.1824463052837078, 12.923978636687961}},
    {30,
     {9.9924817469832e-14, 0.027312522481491547, 0.3831230526421764, 0.5, 0.7553397782501642, 0.9703288435519748,
      0.9999993028615617},
     {-3.385184866829305, -0.853767261471298, 0, 0.8537672614712979, 2.0422724563012378, 3.6459586350420627}},
    {1e4,
     {6.881874756991928e-36, 0.022763630330717714, 0.38209169561466616, 0.5, 0.7580282059099417, 0.9749882398840835,
      0.9999999989791908},
     {-3.091047516030612, -0.8416571791416533, 0, 0.8416571791416534, 1.960201239890626, 3.2914999659416355}}};

TEST(Student, DistributionIsScipys) {
  for (const Row& row : kTable) {
    SCOPED_TRACE(row.freedom);
    for (size_t i = 0; i < row.cdf.size(); ++i) expect_close(student_cdf(kT[i], row.freedom), row.cdf[i], 1e-11);
    for (size_t i = 0; i < row.quantile.size(); ++i) {
      SCOPED_TRACE(kProbability[i]);
      if (row.quantile[i] != 0) expect_close(student_quantile(kProbability[i], row.freedom), row.quantile[i], 1e-10);
      else EXPECT_NEAR(student_quantile(kProbability[i], row.freedom), 0, 1e-12);
    }
  }
}

TEST(Student, DistributionAndQuantileAreInverse) {
  for (const double freedom : {1.0, 2.0, 4.7, 50.0})
    for (const double p : {1e-4, 0.05, 0.4, 0.5, 0.7, 0.99})
      expect_close(student_cdf(student_quantile(p, freedom), freedom), p, 1e-11);
}

TEST(Moments, AreThoseOfTheDefinition) {
  EXPECT_DOUBLE_EQ(mean(kA), 3.162);
  expect_close(standard_deviation(kA), 0.12911235417263525, 1e-13);
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(median({7}), 7);
  EXPECT_EQ(median({1, kInfinity, kInfinity}), kInfinity);
  EXPECT_TRUE(std::isnan(mean({})));
  EXPECT_TRUE(std::isnan(median({})));
  EXPECT_TRUE(std::isnan(standard_deviation({})));
  EXPECT_TRUE(std::isnan(standard_deviation({1})));
}

TEST(Interval, IsScipys) {
  const Estimate e = estimate(kA);
  EXPECT_EQ(e.n, 5);
  expect_close(e.mean, 3.162, 1e-13);
  expect_close(e.sd, 0.12911235417263525, 1e-13);
  expect_close(e.low, 3.001685838100505, 1e-11);
  expect_close(e.high, 3.3223141618994947, 1e-11);
}

TEST(Interval, OfOneValueIsInfinite) {
  const Estimate one = estimate({2.5}), none = estimate({});
  EXPECT_EQ(one.n, 1);
  EXPECT_EQ(one.mean, 2.5);
  EXPECT_EQ(one.low, -kInfinity);
  EXPECT_EQ(one.high, kInfinity);
  EXPECT_EQ(none.n, 0);
  EXPECT_TRUE(std::isnan(none.mean));
  EXPECT_EQ(none.low, -kInfinity);
}

TEST(Paired, IsScipys) {
  const Difference d = paired_difference(kA, kB);
  EXPECT_EQ(d.n, 5);
  expect_close(d.mean, 0.068, 1e-12);
  expect_close(d.p, 0.04695005514376579, 1e-10);
  expect_close(d.low, 0.0014811032838826232, 1e-10);
  expect_close(d.high, 0.13451889671611733, 1e-11);
  expect_close(d.detectable, 0.0890628056194317, 1e-10);
  EXPECT_TRUE(d.decided());
}

TEST(Paired, SignFollowsTheOrder) {
  const Difference ab = paired_difference(kA, kB), ba = paired_difference(kB, kA);
  EXPECT_DOUBLE_EQ(ab.mean, -ba.mean);
  EXPECT_DOUBLE_EQ(ab.low, -ba.high);
  EXPECT_DOUBLE_EQ(ab.p, ba.p);
  EXPECT_TRUE(ba.decided());
}

TEST(Paired, AnIntervalThatHoldsZeroDecidesNothing) {
  const Difference d = paired_difference({1, 2, 3}, {1.1, 1.9, 3.05});
  EXPECT_LT(d.low, 0);
  EXPECT_GT(d.high, 0);
  EXPECT_GT(d.p, 0.05);
  EXPECT_FALSE(d.decided());
}

TEST(Paired, FewerThanTwoPairsDecideNothing) {
  for (const auto& x : std::vector<std::vector<double>>{{}, {1}}) {
    const Difference d = paired_difference(x, {9, 9});
    EXPECT_EQ(d.n, static_cast<int64_t>(x.size()));
    EXPECT_FALSE(d.decided());
    EXPECT_TRUE(std::isnan(d.p));
    EXPECT_EQ(d.low, -kInfinity);
    EXPECT_EQ(d.high, kInfinity);
    EXPECT_EQ(d.detectable, kInfinity);
  }
}

TEST(Paired, DifferencesWithoutNoise) {
  const Difference same = paired_difference({1, 2}, {1, 2}), apart = paired_difference({1, 2}, {0.5, 1.5});
  EXPECT_EQ(same.p, 1);
  EXPECT_FALSE(same.decided());
  EXPECT_EQ(apart.p, 0);
  EXPECT_TRUE(apart.decided());
}

TEST(Welch, IsScipys) {
  const Difference d = welch_difference(kA, kC);
  EXPECT_EQ(d.n, 3);
  expect_close(d.mean, 0.462, 1e-12);
  expect_close(d.p, 0.03671750469194276, 1e-10);
  expect_close(d.low, 0.05346979063854751, 1e-10);
  expect_close(d.high, 0.8705302093614529, 1e-11);
  expect_close(d.detectable, 0.5346522128671266, 1e-10);
  EXPECT_TRUE(d.decided());
}

TEST(Welch, FewerThanTwoOnOneSideDecideNothing) {
  for (const auto& x : std::vector<std::vector<double>>{{}, {1}}) {
    const Difference d = welch_difference(kA, x);
    EXPECT_FALSE(d.decided());
    EXPECT_TRUE(std::isnan(d.p));
    EXPECT_EQ(d.high, kInfinity);
  }
}

/// Two constant samples: 0 / 0 degrees of freedom, so nothing is said rather than a number made of
/// nothing.
TEST(Welch, WithoutNoiseSaysNothing) {
  EXPECT_TRUE(std::isnan(welch_difference({1, 1}, {2, 2}).p));
  EXPECT_FALSE(welch_difference({1, 1}, {2, 2}).decided());
}

TEST(Noise, IsPooledByFreedom) {
  expect_close(pooled_noise({kA, kC, {9.0}, {}}), 0.15635429852315114, 1e-12);
  EXPECT_DOUBLE_EQ(pooled_noise({kA}), standard_deviation(kA));
  EXPECT_TRUE(std::isnan(pooled_noise({})));
  EXPECT_TRUE(std::isnan(pooled_noise({{1}, {2}})));
}

}  // namespace
}  // namespace schatten::testing
