// Sums of inverses of one symmetric matrix at several shifts: the work behind a rational function of a Gram matrix.
#pragma once
#include <schatten/kernels/products.h>

#include <cstdint>
#include <vector>

namespace schatten {

/// f(lambda) = constant + sum_i weights[i] / (lambda + shifts[i]), all positive.
struct ShiftedInverses {
  std::vector<double> shifts, weights;
  double constant = 0;
};

/// What the factorisations had to do, and found.
struct InverseOutcome {
  bool done = true;           // where false, Q holds nothing
  int raises = 0;             // times that a shift was raised fourfold
  std::vector<double> below;  // per shift s_i the sum of s_i / (lambda_k + s_i): about how many lambda_k lie below s_i
};

/// The products of a term: `fine` for shifts below 2^-12, on which the error of half-length products (2^-17 of scale R)
/// would show, `coarse` for the others.
struct InverseKernels {
  const BlockKernels *fine = nullptr, *coarse = nullptr;
};
/// float32, and with `split` bfloat16x2 as coarse where it is faster (AMX). Null where there are no kernels.
InverseKernels inverse_kernels(Isa isa, bool split);

/// Q = f(scale R) = constant I + sum_i weights[i] (scale R + shifts[i] I)^-1            R, Q [n, n], row after row
///
/// R is symmetric and positive semidefinite up to rounding; all of it is read. Each term is a Cholesky factorisation
/// L L^T in blocks, the triangular inverse W = L^-1 and the sum of the W^T W over one triangle: n^3 operations per
/// shift, all but those on diagonal blocks as products of blocks. (An inverse by explicit Schur complements is a fifth
/// faster, and unstable where R has no full rank.)
/// Terms are summed in order, which is best by rising shift. A pivot that is not positive, NaN included, raises its
/// shift fourfold, `attempts` - 1 times at most.
/// Scratch: 2 n^2 entries, 3 with AMX.
/// Checked   kernels/shifted_inverses, linalg/spectral_power.
InverseOutcome sum_shifted_inverses(Isa isa, const InverseKernels& kernels, const float* r, int64_t n, double scale,
                                    const ShiftedInverses& f, float* q, int attempts = 4);

}  // namespace schatten
