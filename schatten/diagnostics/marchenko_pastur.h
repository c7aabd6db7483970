// What the spectrum of a random matrix looks like, and which eigenvalues stand out of it.
#pragma once
#include <schatten/core/tensor.h>

#include <cstdint>
#include <vector>

namespace schatten {

/// The Marchenko-Pastur bulk of a matrix of independent entries with this one's variance v, for lambda = sigma^2:
///   M = min(m, n), N = max(m, n), Q = N / M:   edges v N (1 -+ Q^-1/2)^2
///   spikes: lambda beyond the upper edge by more than sqrt(TW), TW = Q^-1/2 e^(2/3) M^(-2/3) at edge e for v N = 1
/// Source   WeightWatcher 0.7.7.
/// Differs  v is the variance of the entries; there a fit of the density (a search on a grid).
/// Checked  diagnostics/marchenko_pastur_test.
struct MarchenkoPastur {
  double lower = 0, upper = 0;  // the edges, in units of lambda
  double soft_rank = 0;         // upper / lambda_1: 1 and more where nothing stands out
  int64_t spikes = 0;
};
/// NaN and no spikes where the matrix holds NaN or infinity, and no soft rank where it is 0.
MarchenkoPastur marchenko_pastur(const Tensor& matrix, const std::vector<double>& singular_values);

}  // namespace schatten
