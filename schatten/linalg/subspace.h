// Bases: leading singular directions, random projections, eigenbases, roots of symmetric matrices.
// All of one [m, n]. Computed in float64 for float64, else in float32; results have the dtype of the input and
// hold NaN where the input holds NaN or infinity.
#pragma once
#include <schatten/core/rng.h>
#include <schatten/core/tensor.h>
#include <schatten/kernels/isa.h>

#include <array>
#include <cstdint>
#include <string_view>

namespace schatten {

/// How leading singular directions are found. "Energy" is |X V|_F^2 against that of the SVD's V.
enum class Leading {
  svd,         // LAPACK's thin SVD: directions to eps sigma_1 / gap of sigma
  gram,        // eigenvectors of the smaller of X X^T and X^T X: to eps sigma_1^2 / gap of sigma^2; the energy to 1e-6
  randomized,  // powers of that matrix on a sketch: the energy less 1e-5 to 3e-3 (recorded momentum), 3 % (flat spectra)
};
constexpr auto enum_names(Leading) { return std::to_array<std::string_view>({"svd", "gram", "randomized"}); }

/// Orthonormal columns U_r [m, r]: the min(rank, m, n) leading left singular vectors, largest first. Their signs are
/// LAPACK's, and differ between float32 and float64: see align_columns. `draws` is read by `randomized` only.
///   gram        float32 tells directions from each other where their sigma^2 differ by more than rounding of sigma_1^2
///   randomized  left singular vectors of C^3 Omega, Omega Gaussian [n, r + 8], C = X^T X or X X^T (Halko, Martinsson and
///               Tropp 2011, arXiv:0909.4061): a function of X and `draws`. Products as Products::automatic and, but for
///               the last power, bfloat16
Tensor top_left(const Tensor& x, int64_t rank, Leading how = Leading::svd, const Rng& draws = Rng{},
                Isa isa = this_isa());
/// V_r [n, r], likewise.
Tensor top_right(const Tensor& x, int64_t rank, Leading how = Leading::svd, const Rng& draws = Rng{},
                 Isa isa = this_isa());

/// `fresh` [k, r] with each column's sign such that its dot product with the reference's column is not negative;
/// where that is 0, or the reference is undefined, the entry of largest magnitude is positive.
Tensor align_columns(const Tensor& fresh, const Tensor& reference);

/// N(0, 1 / r) entries, r = min(rows, cols): the r x n or m x r projection of APOLLO. Drawn in float32 by torch's CPU
/// generator, divided by sqrt(r) in float32, cast: the same bits as apollo-torch on a CPU.
/// Source   arXiv:2412.05270, zhuhanqing/APOLLO@76b3472.   Checked  linalg/subspace_test (their projections).
Tensor gaussian_projection(int64_t seed, int64_t rows, int64_t cols, at::ScalarType dtype);
/// The seed of the next refresh: the 15th int64 in [0, 2^63 - 1) of a CPU generator seeded with this one.
int64_t next_seed(int64_t seed);

/// Q [m, min(m, n)] of the thin QR decomposition.
Tensor qr_q(const Tensor& x);

/// A^exponent = V diag(max(lambda, eps)^exponent) V^T for a symmetric A (its lower triangle is read).
Tensor symmetric_root(const Tensor& a, double exponent, double eps);

/// Eigenvectors of A + 1e-30 I as columns, largest eigenvalue first (SOAP, nikhilvyas/SOAP@a1e5535).
Tensor eigenbasis_descending(const Tensor& a);

}  // namespace schatten
