#include <schatten/campaign/statistics.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace schatten {

namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// Continued fraction of the incomplete beta function (Lentz's method).
double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  const auto away = [](double v) { return std::abs(v) < kTiny ? kTiny : v; };
  double c = 1, d = 1 / away(1 - (a + b) * x / (a + 1)), h = d;
  for (int m = 1; m <= 10000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / away(1 + even * d);
    c = away(1 + even / c);
    h *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / away(1 + odd * d);
    c = away(1 + odd / c);
    h *= d * c;
    if (std::abs(d * c - 1) < 1e-16) break;
  }
  return h;
}

/// Regularised incomplete beta function I_x(a, b).
double incomplete_beta(double a, double b, double x) {
  if (x <= 0) return 0;
  if (x >= 1) return 1;
  const double front =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x));
  return x < (a + 1) / (a + b + 2) ? front * beta_fraction(a, b, x) / a : 1 - front * beta_fraction(b, a, 1 - x) / b;
}

Difference from(int64_t n, double difference, double error, double freedom) {
  Difference d{.n = n, .mean = difference};
  if (!(freedom > 0) || !std::isfinite(error)) {
    d.low = -kInfinity, d.high = kInfinity, d.p = kNaN, d.detectable = kInfinity;
    return d;
  }
  const double t = student_quantile(0.975, freedom);
  d.low = difference - t * error;
  d.high = difference + t * error;
  d.p = error > 0 ? 2 * student_cdf(-std::abs(difference) / error, freedom) : (difference == 0 ? 1 : 0);
  d.detectable = (t + student_quantile(0.8, freedom)) * error;
  return d;
}

}  // namespace

double mean(const std::vector<double>& x) {
  return x.empty() ? kNaN : std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
}

double standard_deviation(const std::vector<double>& x) {
  if (x.size() < 2) return kNaN;
  const double m = mean(x);
  double sum = 0;
  for (const double v : x) sum += (v - m) * (v - m);
  return std::sqrt(sum / static_cast<double>(x.size() - 1));
}

double median(std::vector<double> x) {
  if (x.empty()) return kNaN;
  std::sort(x.begin(), x.end());
  return (x[(x.size() - 1) / 2] + x[x.size() / 2]) / 2;
}

double student_cdf(double t, double freedom) {
  const double tail = 0.5 * incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t));
  return t > 0 ? 1 - tail : tail;
}

double student_quantile(double probability, double freedom) {
  if (probability < 0.5) return -student_quantile(1 - probability, freedom);
  double low = 0, high = 1;
  while (student_cdf(high, freedom) < probability) high *= 2;
  for (int i = 0; i < 200 && high - low > 1e-15 * high; ++i) {
    const double middle = (low + high) / 2;
    (student_cdf(middle, freedom) < probability ? low : high) = middle;
  }
  return (low + high) / 2;
}

Estimate estimate(const std::vector<double>& x) {
  Estimate e{.n = static_cast<int64_t>(x.size()),
             .mean = mean(x),
             .sd = standard_deviation(x),
             .low = -kInfinity,
             .high = kInfinity};
  if (x.size() < 2) return e;
  const auto n = static_cast<double>(x.size());
  const double reach = student_quantile(0.975, n - 1) * e.sd / std::sqrt(n);
  e.low = e.mean - reach;
  e.high = e.mean + reach;
  return e;
}

Difference paired_difference(const std::vector<double>& a, const std::vector<double>& b) {
  std::vector<double> d;
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) d.push_back(a[i] - b[i]);
  const auto n = static_cast<double>(d.size());
  return from(static_cast<int64_t>(d.size()), mean(d), standard_deviation(d) / std::sqrt(n), n - 1);
}

Difference welch_difference(const std::vector<double>& a, const std::vector<double>& b) {
  const auto na = static_cast<double>(a.size()), nb = static_cast<double>(b.size());
  const double sa = standard_deviation(a), sb = standard_deviation(b);
  const double va = sa * sa / na, vb = sb * sb / nb;
  const double freedom = (va + vb) * (va + vb) / (va * va / (na - 1) + vb * vb / (nb - 1));
  return from(static_cast<int64_t>(std::min(a.size(), b.size())), mean(a) - mean(b), std::sqrt(va + vb), freedom);
}

double pooled_noise(const std::vector<std::vector<double>>& groups) {
  double squares = 0, freedom = 0;
  for (const auto& g : groups) {
    if (g.size() < 2) continue;
    const double sd = standard_deviation(g), f = static_cast<double>(g.size() - 1);
    squares += f * sd * sd;
    freedom += f;
  }
  return freedom > 0 ? std::sqrt(squares / freedom) : kNaN;
}

}  // namespace schatten
