#include <ATen/ATen.h>
#include <schatten/core/error.h>
#include <schatten/core/tensor.h>
#include <schatten/core/text.h>
#include <schatten/linalg/polar_express.h>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace schatten {

double OddPolynomial::operator()(double x) const {
  double sum = 0;
  for (size_t k = coefficients.size(); k-- > 0;) sum = sum * x * x + coefficients[k];
  return sum * x;
}

namespace {

using Vector = std::vector<double>;

/// p and E with p(x_i) + (-1)^i E = 1 at every node.
OddPolynomial interpolated(const Vector& nodes) {
  const auto n = static_cast<int64_t>(nodes.size());
  const Tensor matrix = at::empty({n, n}, at::kDouble);
  double* entry = matrix.data_ptr<double>();
  for (int64_t i = 0; i < n; ++i) {
    const double x = nodes[static_cast<size_t>(i)];
    for (int64_t k = 0; k < n - 1; ++k) *entry++ = std::pow(x, static_cast<double>(2 * k + 1));
    *entry++ = i % 2 ? -1 : 1;
  }
  const Tensor solved = at::linalg_solve(matrix, at::ones({n}, at::kDouble)).contiguous();
  const double* values = solved.data_ptr<double>();
  return {{values, values + n - 1}, values[n - 1]};
}

/// Roots of sum_k c_k y^k, by the eigenvalues of its companion matrix; ascending.
Vector roots(const Vector& c) {
  const auto q = static_cast<int64_t>(c.size()) - 1;
  const Tensor companion = at::diag(at::ones({q - 1}, at::kDouble), -1);
  for (int64_t k = 0; k < q; ++k) companion[k][q - 1] = -c[static_cast<size_t>(k)] / c.back();
  const Tensor real = at::real(at::linalg_eigvals(companion)).contiguous();
  Vector all(real.data_ptr<double>(), real.data_ptr<double>() + q);
  std::sort(all.begin(), all.end());
  return all;
}

/// Where p has its extrema: zeros of p' in y = x^2.
Vector extrema(const OddPolynomial& p) {
  Vector derivative;
  for (size_t k = 0; k < p.coefficients.size(); ++k)
    derivative.push_back(static_cast<double>(2 * k + 1) * p.coefficients[k]);
  Vector found = roots(derivative);
  for (double& x : found) x = std::sqrt(x);
  return found;
}

/// The odd polynomial that touches 1 at x = 1 as often as it can: 15/8, -10/8, 3/8 for degree 5.
OddPolynomial touching_one(int q) {
  double leading = 1, binomial = 1;
  for (int k = 1; k <= q; ++k) leading *= (2.0 * k + 1) / (2.0 * k);
  OddPolynomial p;
  for (int k = 0; k <= q; ++k) {
    p.coefficients.push_back(leading * binomial / (2 * k + 1));
    binomial *= -static_cast<double>(q - k) / (k + 1);
  }
  return p;
}

/// On [low, 1]: exchange the inner nodes for the extrema until the error stands still.
OddPolynomial remez(double low, int q) {
  Vector nodes;
  for (int i = 0; i < q + 2; ++i)
    nodes.push_back((1 + low) / 2 - (1 - low) / 2 * std::cos(std::numbers::pi * i / (q + 1)));
  nodes.back() = 1;
  OddPolynomial p = interpolated(nodes);
  for (int round = 0; round < 50; ++round) {
    const double before = p.error;
    const Vector inner = extrema(p);
    std::copy(inner.begin(), inner.end(), nodes.begin() + 1);
    p = interpolated(nodes);
    if (std::abs(p.error - before) <= 1e-15) break;
  }
  return p;
}

std::string shown(double value) {
  std::string text;
  append_real(text, value);
  return text;
}

void check_polar_express(double low, int steps, double safety, double cushion, int degree) {
  const auto refuse = [](const char* expected, double got) {
    fail_usage({"polar_express_schedule", expected, shown(got), ""});
  };
  if (!(low > 0 && low < 1)) refuse("low in (0, 1)", low);
  if (steps < 1) refuse("at least one step", steps);
  if (!(safety >= 0 && safety < 1)) refuse("safety in [0, 1)", safety);
  if (!(cushion >= 0 && cushion < 1)) refuse("cushion in [0, 1)", cushion);
  if (degree != 3 && degree != 5) refuse("degree 3 or 5", degree);
}

}  // namespace

OddPolynomial minimax_polynomial(double low, double high, int degree) {
  if (!(low > 0 && low <= high && std::isfinite(high)) || degree < 3 || degree % 2 == 0)
    fail_usage({"minimax_polynomial", "0 < low <= high and an odd degree from 3",
                shown(low) + ", " + shown(high) + ", " + std::to_string(degree), ""});
  const int q = (degree - 1) / 2;
  OddPolynomial p = low / high >= 1 - 5e-6 ? touching_one(q) : remez(low / high, q);
  double power = high;
  for (double& c : p.coefficients) c /= power, power *= high * high;
  return p;
}

PolynomialSchedule polar_express_schedule(double low, int steps, double safety, double cushion, int degree) {
  check_polar_express(low, steps, safety, cushion, degree);
  PolynomialSchedule schedule{.name = "polar_express(" + shown(low) + ", " + std::to_string(steps) + ")",
                              .norm_margin = 1 + safety,
                              .source = "arXiv:2505.16932, generated"};
  double high = 1;
  for (int t = 1; t <= steps; ++t) {
    OddPolynomial p = minimax_polynomial(std::max(low, cushion * high), high, degree);
    const double centre = cushion * high > low ? 2 / (p(low) + p(high)) : 1, margin = t < steps ? 1 + safety : 1;
    double scale = centre / margin;
    for (double& c : p.coefficients) c *= scale, scale /= margin * margin;
    p.coefficients.resize(3, 0);
    schedule.coefficients.push_back({p.coefficients[0], p.coefficients[1], p.coefficients[2]});
    low = p(low);
    high = 2 - low;
    low = std::min(low, high);
  }
  schedule.band = output_band(schedule);
  return schedule;
}

}  // namespace schatten
