// Fits q(lambda) = r0 + sum r_i / (lambda + s_i) to lambda^(-(1-p)/2) on [l^2, 1], relative minimax by Lawson
// weights: weighted least squares whose weights grow where the error is largest. The r are eliminated (they enter
// linearly), so Gauss-Newton with damping moves the logarithms of the shifts only.
#include <schatten/core/error.h>
#include <schatten/linalg/spectral_power.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <mutex>
#include <tuple>
#include <vector>

namespace schatten {

double RationalPower::operator()(double sigma) const {
  double q = constant;
  for (size_t i = 0; i < shifts.size(); ++i) q += weights[i] / (sigma * sigma + shifts[i]);
  return sigma * q;
}

namespace {

constexpr size_t kPoints = 600;
using Vector = std::vector<double>;

double dot(const Vector& a, const Vector& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

/// Least squares by modified Gram-Schmidt: the coefficients of `columns` nearest to `right`; the columns are consumed.
Vector solve_least_squares(std::vector<Vector> columns, Vector right) {
  const size_t n = columns.size();
  std::vector<Vector> r(n, Vector(n, 0));
  Vector projected(n);
  for (size_t j = 0; j < n; ++j) {
    r[j][j] = std::sqrt(dot(columns[j], columns[j]));
    for (double& v : columns[j]) v /= r[j][j];
    for (size_t k = j + 1; k < n; ++k) {
      r[j][k] = dot(columns[j], columns[k]);
      for (size_t i = 0; i < columns[k].size(); ++i) columns[k][i] -= r[j][k] * columns[j][i];
    }
    projected[j] = dot(columns[j], right);
    for (size_t i = 0; i < right.size(); ++i) right[i] -= projected[j] * columns[j][i];
  }
  for (size_t j = n; j-- > 0;) {
    for (size_t k = j + 1; k < n; ++k) projected[j] -= r[j][k] * projected[k];
    projected[j] /= r[j][j];
  }
  return projected;
}

struct Problem {
  Vector lambda, inverse_target;

  Problem(double power, double interval) {
    for (size_t i = 0; i < kPoints; ++i) {
      const double share = static_cast<double>(i) / (kPoints - 1);
      lambda.push_back(std::exp(2 * std::log(interval) * (1 - share)));
      inverse_target.push_back(std::pow(lambda.back(), (1 - power) / 2));
    }
  }
  /// Columns 1/(lambda + s_i) and 1, relative to the target and weighted.
  std::vector<Vector> columns(const Vector& log_shifts, const Vector& weight) const {
    std::vector<Vector> all;
    for (const double x : log_shifts) {
      Vector column(kPoints);
      for (size_t i = 0; i < kPoints; ++i) column[i] = weight[i] * inverse_target[i] / (lambda[i] + std::exp(x));
      all.push_back(std::move(column));
    }
    Vector constant(kPoints);
    for (size_t i = 0; i < kPoints; ++i) constant[i] = weight[i] * inverse_target[i];
    all.push_back(std::move(constant));
    return all;
  }
  Vector coefficients(const Vector& log_shifts, const Vector& weight) const {
    return solve_least_squares(columns(log_shifts, weight), weight);
  }
  /// Weighted relative error with these coefficients.
  Vector error(const Vector& log_shifts, const Vector& coefficients, const Vector& weight) const {
    Vector e(kPoints);
    const auto all = columns(log_shifts, weight);
    for (size_t i = 0; i < kPoints; ++i) {
      e[i] = -weight[i];
      for (size_t j = 0; j < all.size(); ++j) e[i] += all[j][i] * coefficients[j];
    }
    return e;
  }
  Vector residual(const Vector& log_shifts, const Vector& weight) const {
    return error(log_shifts, coefficients(log_shifts, weight), weight);
  }
  std::vector<Vector> jacobian(const Vector& x, const Vector& weight) const {
    constexpr double kStep = 1e-6;
    std::vector<Vector> derivative;
    for (size_t j = 0; j < x.size(); ++j) {
      Vector up = x, down = x;
      up[j] += kStep;
      down[j] -= kStep;
      Vector column = residual(up, weight);
      const Vector below = residual(down, weight);
      for (size_t i = 0; i < kPoints; ++i) column[i] = (column[i] - below[i]) / (2 * kStep);
      derivative.push_back(std::move(column));
    }
    return derivative;
  }
};

/// The Levenberg-Marquardt step: least squares of the Jacobian with damping rows below it.
Vector damped_step(std::vector<Vector> jacobian, Vector right, double damping) {
  const size_t n = jacobian.size();
  for (size_t j = 0; j < n; ++j) {
    const double scale = std::sqrt(damping * dot(jacobian[j], jacobian[j]) + 1e-14);
    for (size_t k = 0; k < n; ++k) jacobian[j].push_back(j == k ? scale : 0);
  }
  right.resize(right.size() + n, 0);
  return solve_least_squares(std::move(jacobian), std::move(right));
}

/// Levenberg-Marquardt on the logarithms of the shifts.
Vector least_squares(const Problem& problem, Vector x, const Vector& weight, int iterations) {
  double damping = 1e-3;
  Vector r = problem.residual(x, weight);
  double cost = dot(r, r);
  for (int i = 0; i < iterations; ++i) {
    const auto jacobian = problem.jacobian(x, weight);
    bool better = false;
    for (int attempt = 0; attempt < 8 && !better; ++attempt) {
      const Vector step = damped_step(jacobian, r, damping);
      Vector next = x;
      for (size_t j = 0; j < x.size(); ++j) next[j] -= step[j];
      Vector next_r = problem.residual(next, weight);
      const double next_cost = dot(next_r, next_r);
      better = next_cost < cost;
      damping = better ? damping / 5 : damping * 5;
      if (!better) continue;
      const bool settled = cost - next_cost < 1e-9 * cost;
      x = next, r = next_r, cost = next_cost;
      if (settled) return x;
    }
    if (!better) return x;
  }
  return x;
}

RationalPower fitted(double power, double interval, int poles) {
  const Problem problem(power, interval);
  Vector x, weight(kPoints, 1), ones(kPoints, 1);
  for (int i = 0; i < poles; ++i) {  // evenly from the smallest eigenvalue to a little above the largest
    const double low = 2 * std::log(interval) * 0.98, share = poles > 1 ? static_cast<double>(i) / (poles - 1) : 0.5;
    x.push_back(low + (0.6 - low) * share);
  }
  RationalPower best{.power = power, .interval = interval, .error = INFINITY, .source = "fitted: rational minimax"};
  for (int round = 0; round < 25; ++round) {
    x = least_squares(problem, x, weight, round == 0 ? 60 : 12);
    const Vector c = problem.coefficients(x, weight);
    Vector error = problem.error(x, c, ones);
    double largest = 0, sum = 0;
    for (double& e : error) largest = std::max(largest, e = std::abs(e));
    if (largest < best.error) {
      best.error = largest;
      best.constant = c.back();
      best.weights.assign(c.begin(), c.end() - 1);
      best.shifts.clear();
      for (const double v : x) best.shifts.push_back(std::exp(v));
    }
    for (size_t i = 0; i < kPoints; ++i) sum += weight[i] *= std::pow(0.1 + error[i] / largest, 0.6);
    for (double& w : weight) w *= kPoints / sum;
  }
  return best;
}

}  // namespace

RationalPower fit_rational_power(double power, double interval, int poles) {
  if (!(power >= 0 && power < 1) || !(interval > 0 && interval < 1) || poles < 1)
    fail_usage({"rational power", "power in [0, 1), interval in (0, 1), poles >= 1",
                std::to_string(power) + ", " + std::to_string(interval) + ", " + std::to_string(poles), ""});
  // A fit takes a tenth of a second, and a recipe is made anew whenever a schedule moves another of its numbers.
  static std::mutex mutex;
  static std::map<std::tuple<double, double, int>, RationalPower> known;
  const std::scoped_lock lock(mutex);
  const auto at = known.find({power, interval, poles});
  return at != known.end() ? at->second : known[{power, interval, poles}] = fitted(power, interval, poles);
}

}  // namespace schatten
