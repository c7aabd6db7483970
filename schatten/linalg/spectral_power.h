// U S^p V^T: p = 0 is the polar factor, p = 1 the identity.
#pragma once
#include <schatten/core/tensor.h>

#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

namespace schatten {

/// By SVD, in the dtype of x (half types: float32). Values below eps * max(m, n) * sigma_max map to 0.
Tensor spectral_power_svd(const Tensor& x, double power);
/// By eigenvalues of the float64 Gram matrix of the short side.
Tensor spectral_power_eigh(const Tensor& x, double power);

/// q(lambda) = r0 + sum_i r_i / (lambda + s_i) approximates lambda^(-(1-p)/2) on [l^2, 1]; then
/// f(sigma) = sigma q(sigma^2) approximates sigma^p on [l, 1] times the largest singular value.
struct RationalPower {
  double power = 0.125;
  double interval = 5e-3;               // l: below l * sigma_max the result falls linearly to 0
  std::vector<double> shifts, weights;  // s_i > 0, r_i > 0
  double constant = 0;                  // r0
  double error = 0;                     // promised: max |f(sigma) / sigma^p - 1| on [l, 1]
  std::string source;
  double operator()(double sigma) const;  // sigma relative to sigma_max
};

/// Fitted for any power in [0, 1): relative minimax by Lawson weights, as measured tables confirm.
RationalPower fit_rational_power(double power, double interval = 5e-3, int poles = 4);

/// What the guard had to do; shared by the tasks that step matrices.
struct RationalReport {
  std::atomic<int64_t> shift_raises{0}, eigh_fallbacks{0};
};

/// N Cholesky inverses of shifted Gram matrices (plain ATen). cholesky_ex info is checked; on failure
/// the shift is raised fourfold (three times at most), then eigenvalues of the float64 Gram decide.
Tensor spectral_power_rational(const Tensor& x, const RationalPower& power, RationalReport* report = nullptr);

}  // namespace schatten
