// Polar Express: the schedule that is best in the worst case, made for any lower bound of the singular values.
#pragma once
#include <schatten/linalg/polynomial_schedule.h>

namespace schatten {

/// sum_k coefficients[k] x^(2k+1), with |p(x) - 1| <= error on [low, high].
struct OddPolynomial {
  std::vector<double> coefficients;
  double error = 0;
  double operator()(double x) const;
};

/// The odd polynomial of this degree nearest to 1 on [low, high], by the Remez exchange in float64.
/// Where the interval has shrunk to a point: the Taylor polynomial of 1 about `high`.
OddPolynomial minimax_polynomial(double low, double high, int degree);

/// For t = 1..steps, from (l, u) = (low, 1):
///   p_t = minimax(max(l, cushion u), u), times 2 / (p_t(l) + p_t(u)) where the cushion was used;
///   p_t(x) <- p_t(x / (1 + safety)) but for the last;  l <- p_t(l), u <- 2 - l.
/// `degree` is 3 or 5. The norm margin is 1 + safety.
/// Source   arXiv:2505.16932; NoahAmsel/PolarExpress polar_express/_core.py.
/// Checked  linalg/polar_express: minimax values, both published tables.
PolynomialSchedule polar_express_schedule(double low, int steps, double safety = 0.01, double cushion = 0.02,
                                          int degree = 5);

}  // namespace schatten
