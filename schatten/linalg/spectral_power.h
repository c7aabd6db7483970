// U S^p V^T: p = 0 is the polar factor, p = 1 the identity.
#pragma once
#include <schatten/core/tensor.h>
#include <schatten/linalg/multiply.h>

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

struct RationalOptions {
  int64_t deflate = 0;                      // leading directions that may be taken out first
  Products products = Products::automatic;  // of float32; `bfloat16` would lose the small singular values
  Isa isa = this_isa();                     // portable: plain ATen
};

/// The number of directions that are tracked for `deflate` of them: a few more, so that those taken out have settled.
/// 0 where the short side is too short for it to pay.
int64_t tracked_directions(int64_t deflate, int64_t rows, int64_t cols);

/// N Cholesky inverses of shifted Gram matrices: q(X X^T / sigma^2) X sigma^(p-1) on the short side.       [.., m, n]
/// float32 by the kernels of `isa`, with amx_bf16 in products of two bfloat16 halves; float64, and float32 without
/// kernels, by ATen. A failed Cholesky raises its shift fourfold, three times at most; then eigenvalues of the float64
/// Gram matrix decide.
///
/// Deflation. Where more than a tenth of the singular values lie below l sigma_max, so that they would be cut, the
/// `deflate` leading directions are taken out and mapped exactly, and what is left is mapped from its own largest:
///   X = Q B + X',  B = Q^T X = E S F^T;   result  Q E S^p F^T + f(X' - X' F F^T)
/// No more of them than leaves l above the rank floor, and none where the last is more than half the first.
/// Q comes from subspace iteration on `basis` [.., min(m, n), tracked_directions], which is carried from step to step:
/// zero says that there is none (so it begins), and it becomes zero again where nothing needs it. Without a basis every
/// call begins anew. Never written where x is not finite.
/// On momentum recorded in training (192 x 192 and 192 x 512), where it sets in: relative errors at p = 0 of .18 to .66
/// without, .004 to .13 with; a step of 512 x 512 costs a fifth more while it lasts.
/// Checked  linalg/rational_power, identity/deflation_*.
Tensor spectral_power_rational(const Tensor& x, const RationalPower& power, RationalReport* report = nullptr,
                               const RationalOptions& options = {}, const Tensor* basis = nullptr);

}  // namespace schatten
