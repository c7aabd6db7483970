// U S^p V^T by matrix products alone: a mixture of the iterates of a Newton-Schulz iteration.
#pragma once
#include <schatten/core/tensor.h>

#include <array>
#include <string>
#include <vector>

namespace schatten {

/// f(sigma) = w_0 f_0 + .. + w_T f_T,  f_0 = sigma,  f_t = a_t f_{t-1} + b_t f_{t-1}^3 + c_t f_{t-1}^5
/// approximates sigma^p on [interval, 1]; below it falls linearly to 0, above 1.1 it diverges. The weights make the
/// difference: the last iterate alone is 8 to 20 % off.
/// Source   this project: found by search from random starts.
struct MixturePower {
  double power = 0.125;
  double interval = 1e-2;
  std::vector<std::array<double, 3>> steps;
  std::vector<double> weights;
  double error = 0;  // max |f(sigma) / sigma^p - 1| on [interval, 1], by a scan
  double operator()(double sigma) const;
};

/// The table for p = 1/8 (interval below 1e-2: 1e-3, else 1e-2), 1/4 or 1/2 (1e-2). UsageError for other powers.
MixturePower mixture_power(double power, double interval = 5e-3);
bool has_mixture(double power);

/// On R = X X^T of the short side, all in the dtype of x (half types: float32), any device:                [.., m, n]
///   Z = a I + b R + c R^2,  Q <- Q Z,  R <- Z R Z,  S <- S + w Q;   result  S X
/// X is divided by |R^2|_F^(1/4), an upper bound of its largest singular value at the cost of one product, which the
/// first step needs anyway; it is 1.2 to 2 times as large where the spectrum is flat, and the interval is that much
/// shorter. Zero maps to zero, NaN and infinity fill their matrix.
/// Checked  linalg/mixture_power.
Tensor spectral_power_mixture(const Tensor& x, const MixturePower& power);

}  // namespace schatten
