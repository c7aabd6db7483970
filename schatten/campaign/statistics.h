// The few statistics that a campaign needs, as pure functions.
#pragma once
#include <cstdint>
#include <utility>
#include <vector>

namespace schatten {

double mean(const std::vector<double>& x);
double standard_deviation(const std::vector<double>& x);  // n - 1 in the denominator; NaN for n < 2
double median(std::vector<double> x);                     // NaN when empty

/// Student's t distribution with `freedom` degrees.
double student_cdf(double t, double freedom);
double student_quantile(double probability, double freedom);

/// Mean with its 95 % t-interval; infinite ends for n < 2.
struct Estimate {
  int64_t n = 0;
  double mean = 0, sd = 0, low = 0, high = 0;
};
Estimate estimate(const std::vector<double>& x);

/// Difference a - b, of pairs (same seed) or of two samples (Welch).
struct Difference {
  int64_t n = 0;
  double mean = 0, low = 0, high = 0, p = 1;  // two-sided
  /// The true difference that this many runs of this noise would have found four times in five
  /// (two-sided 5 %): (t_0.975 + t_0.8) * standard error, with the t quantiles of the same freedom.
  double detectable = 0;
  bool decided() const { return n >= 2 && (low > 0 || high < 0); }
};
Difference paired_difference(const std::vector<double>& a, const std::vector<double>& b);
Difference welch_difference(const std::vector<double>& a, const std::vector<double>& b);

/// Root of the mean variance over groups with at least two members, weighted by their freedom: the noise
/// between runs that differ in their seed only.
double pooled_noise(const std::vector<std::vector<double>>& groups);

}  // namespace schatten
