// Fits q(lambda) = r0 + sum r_i / (lambda + s_i) to lambda^(-(1-p)/2) on [l^2, 1], relative minimax by Lawson
// weights: weighted least squares whose weights grow where the error is largest. The r are eliminated (they enter
// linearly), so Gauss-Newton with damping moves the logarithms of the shifts only.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <schatten/core/error.h>
#include <schatten/linalg/spectral_power.h>

#include <cmath>

namespace schatten {

double RationalPower::operator()(double sigma) const {
  double q = constant;
  for (size_t i = 0; i < shifts.size(); ++i) q += weights[i] / (sigma * sigma + shifts[i]);
  return sigma * q;
}

namespace {

constexpr int64_t kPoints = 600;

struct Problem {
  Tensor lambda, target;  // [points], float64

  Problem(double power, double interval) {
    lambda = at::linspace(2 * std::log(interval), 0, kPoints, at::kDouble).exp();
    target = lambda.pow(-(1 - power) / 2);
  }
  /// Columns 1/(lambda + s_i) and 1, relative to the target: [points, N + 1].
  Tensor columns(const Tensor& log_shifts) const {
    const Tensor poles = (lambda.unsqueeze(1) + log_shifts.exp().unsqueeze(0)).reciprocal();
    return at::cat({poles, at::ones({kPoints, 1}, at::kDouble)}, 1) / target.unsqueeze(1);
  }
  Tensor coefficients(const Tensor& log_shifts, const Tensor& weight) const {
    const Tensor a = columns(log_shifts) * weight.unsqueeze(1);
    return std::get<0>(at::linalg_lstsq(a, weight.unsqueeze(1), std::nullopt, "gelsd"));
  }
  /// Weighted relative error with the best coefficients: [points].
  Tensor residual(const Tensor& log_shifts, const Tensor& weight) const {
    const Tensor c = coefficients(log_shifts, weight);
    return (at::mm(columns(log_shifts), c).squeeze(1) - 1) * weight;
  }
  Tensor jacobian(const Tensor& x, const Tensor& weight) const {
    std::vector<Tensor> derivative;
    constexpr double kStep = 1e-6;
    for (int64_t i = 0; i < x.numel(); ++i) {
      Tensor up = x.clone(), down = x.clone();
      up[i] += kStep;
      down[i] -= kStep;
      derivative.push_back((residual(up, weight) - residual(down, weight)) / (2 * kStep));
    }
    return at::stack(derivative, 1);
  }
};

/// Levenberg-Marquardt on the logarithms of the shifts.
Tensor least_squares(const Problem& problem, Tensor x, const Tensor& weight, int iterations) {
  double damping = 1e-3;
  Tensor r = problem.residual(x, weight);
  double cost = r.square().sum().item<double>();
  for (int i = 0; i < iterations; ++i) {
    const Tensor j = problem.jacobian(x, weight);
    const Tensor normal = at::mm(j.mT(), j), gradient = at::mm(j.mT(), r.unsqueeze(1));
    bool better = false;
    for (int attempt = 0; attempt < 8 && !better; ++attempt) {
      const Tensor damped = normal + at::diag(normal.diagonal() * damping + 1e-14);
      const Tensor next = x - at::linalg_solve(damped, gradient).squeeze(1);
      const Tensor next_r = problem.residual(next, weight);
      const double next_cost = next_r.square().sum().item<double>();
      better = next_cost < cost;
      damping = better ? damping / 5 : damping * 5;
      if (!better) continue;
      const bool settled = cost - next_cost < 1e-12 * cost;
      x = next, r = next_r, cost = next_cost;
      if (settled) return x;
    }
    if (!better) return x;
  }
  return x;
}

}  // namespace

RationalPower fit_rational_power(double power, double interval, int poles) {
  if (!(power >= 0 && power < 1) || !(interval > 0 && interval < 1) || poles < 1)
    fail_usage({"rational power", "power in [0, 1), interval in (0, 1), poles >= 1", std::to_string(power) + ", " +
                std::to_string(interval) + ", " + std::to_string(poles), ""});
  const at::NoGradGuard no_grad;
  const Problem problem(power, interval);
  Tensor x = at::linspace(2 * std::log(interval) * 0.98, 0.6, poles, at::kDouble);
  Tensor weight = at::ones({kPoints}, at::kDouble);
  RationalPower best{.power = power, .interval = interval, .error = INFINITY, .source = "fitted: rational minimax"};
  for (int round = 0; round < 25; ++round) {
    x = least_squares(problem, x, weight, round == 0 ? 60 : 12);
    const Tensor c = problem.coefficients(x, weight).squeeze(1);
    const Tensor error = (at::mv(problem.columns(x), c) - 1).abs();
    const double largest = error.max().item<double>();
    if (largest < best.error) {
      best.error = largest;
      best.constant = c[poles].item<double>();
      best.shifts.clear(), best.weights.clear();
      for (int i = 0; i < poles; ++i) {
        best.shifts.push_back(std::exp(x[i].item<double>()));
        best.weights.push_back(c[i].item<double>());
      }
    }
    weight = weight * (error / largest + 0.1).pow(0.6);
    weight = weight / weight.mean();
  }
  return best;
}

}  // namespace schatten
