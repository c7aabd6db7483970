// HTMuon's fast powers as its code was released: for parity with its runs. None of them is sigma^p beyond a few large
// singular values; `spectral_power_rational` is what to use instead.
#pragma once
#include <schatten/core/tensor.h>

#include <cstdint>

namespace schatten {

/// 2^(1-J) with J = round(1 - log2 p) nested square roots: 0.2 becomes 0.25, 0.15 becomes 0.125. p in (0, 1].
double released_exponent(double power);

struct ReleasedPower {
  double power = 0.125;  // in effect `released_exponent(power)`
  int ns_steps = 5;      // quintic Newton-Schulz of the polar factor
  int root_steps = 5;    // coupled Newton-Schulz of every square root
  double eps = 1e-6;     // absolute: the result depends on the scale of x
};

/// D = P R, P the quintic Newton-Schulz of X and R ~ (X^T X)^(p/2), always n x n.                     [.., m, n]
///   S <- X^T X + eps I;  then J times:  alpha = max(|S|_F, eps), Y = S / alpha, Z = I,
///   `root_steps` times { T = 3I - Z Y, Y <- Y T / 2, Z <- T Z / 2 },  S <- sym(sqrt(alpha) Y) + eps I
/// True error against U S^p V^T, 512 x 512, sigma_k = sigma_1 / k, p = 1/8: relative 0.28, 0.69, 0.85, 0.86 (norm ratio
/// 1.2, 0.39, 0.32, 0.32) for sigma_1 = 0.01, 0.1, 1, 10. Five coupled steps are a root above a tenth of |S|_F only;
/// below, singular values fall like sigma^2, and with small gradients eps flattens everything.
/// Half types: the root in float32, the product in the dtype of x.
/// Source   TDCSZ327/HTmuon@fa85e59 llama_pretraining/muon.py (HTMuonNSWithAuxAdam).
/// Checked  parity/ortho_htmuon_ns_*, linalg/released_power (scalar oracle to 1e-12, the errors above).
Tensor released_power_ns(const Tensor& x, const ReleasedPower& options = {});

/// U k^(-p) V^T, k = 1, 2, .. the rank of the singular value: sigma itself does not enter.           [.., m, n]
/// It is a power of sigma only where sigma_k = sigma_1 / k. Ties are ordered by rounding; zero maps to no zero.
/// Source   as above (HTMuonHTWithAuxAdam).  Checked  linalg/released_power.
Tensor rank_power(const Tensor& x, double power);

/// P R with P by `steps` cubic steps from X / (|X|_F + 1e-6) and R as above with `steps` coupled steps.
/// True error, same spectra: relative 0.63, 0.70, 0.74, 0.74 (norm ratio 0.56, 0.47, 0.46, 0.46).
/// Source   as above; not called by any released optimizer.  Checked  parity/ortho_htmuon_accv2, linalg/released_power.
Tensor released_power_accv2(const Tensor& x, double power = 0.125, int steps = 10);

/// P R with P by five quintic steps and R by Taylor polynomials of degree 4 in place of the coupled steps:
///   sqrt(S) ~ sqrt(alpha) (I + E/2 - E^2/8 + E^3/16 - 5 E^4/128),  E = S / alpha - I,  takes 0 to 0.27 sqrt(alpha)
/// True error, same spectra: relative 2.30, 2.28, 2.28, 2.28 (norm ratio 3.2 to 3.3): nearly flat and far too long.
/// Source   as above; not called by any released optimizer.  Checked  parity/ortho_htmuon_accv3, linalg/released_power.
Tensor released_power_accv3(const Tensor& x, double power = 0.125);

/// X (H^7 + eps I) with H ~ (X^T X)^(-1/16): three coupled roots, then alpha^(-1/2) Z of a fourth. p = 1/8 only.
/// True error, same spectra: relative 0.83, 83, 233, 236: small singular values come out up to 300 times too large.
/// Source   as above; not called by any released optimizer.  Checked  parity/ortho_htmuon_accv4, linalg/released_power.
Tensor released_power_accv4(const Tensor& x);

/// One step of subspace iteration on a basis that is carried from step to step.
struct StreamingPower {
  Tensor result;  // [.., m, n], dtype of x
  Tensor basis;   // V, [.., n, k], k = min(m, n); float32, or float64 for float64 x
};

/// The first min(m, n) columns of the identity: the basis before the first step.                     [cols, k]
Tensor streaming_basis(int64_t rows, int64_t cols, at::TensorOptions options);

/// V <- Q factor of X^T (X V);  B = X V, s_j = |B_j|, u_j = B_j / s_j;  result U diag(s^p) V^T, 0 where s <= 1e-8.
/// True error against U S^p V^T on a fixed 64 x 96 matrix, sigma_k = 1 / k, p = 1/8: 0.33, 0.17, 0.032, 0.006 after
/// 1, 2, 10, 50 steps; on a momentum that moves it stays near 0.2.
/// Source   as above (HTMuonWithAuxAdam_Stream), after Su's streaming power iteration.
/// Checked  linalg/released_power, htmuon_stream_*.
StreamingPower streaming_power(const Tensor& x, const Tensor& basis, double power);

}  // namespace schatten
