// Bases: leading singular directions, random projections, eigenbases, roots of symmetric matrices.
// All of one [m, n]. Computed in float64 for float64, else in float32; results have the dtype of the input and
// hold NaN where the input holds NaN or infinity.
#pragma once
#include <schatten/core/tensor.h>

#include <cstdint>

namespace schatten {

/// Orthonormal columns U_r [m, r]: the min(rank, m, n) leading left singular vectors, by thin SVD. The signs of the
/// columns are LAPACK's, and differ between float32 and float64: see align_columns.
Tensor top_left(const Tensor& x, int64_t rank);
/// V_r [n, r], likewise.
Tensor top_right(const Tensor& x, int64_t rank);

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
