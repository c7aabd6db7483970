// A spectral map acts on singular values only: X = U S V^T  ->  U f(S) V^T.
#pragma once
#include <schatten/core/tensor.h>

#include <functional>
#include <string>

namespace schatten {

/// The exact form of a spectral stage: its float64 test oracle and its picture in the diagnostics.
/// Singular values below eps * max(m, n) * sigma_max map to 0.
struct SpectralMap {
  std::string name;
  std::function<double(double sigma)> f;
};

SpectralMap polar_map();              // sigma -> 1
SpectralMap power_map(double power);  // sigma -> sigma^p

/// U f(S) V^T through an SVD in the dtype of `x` (half types: float32). [.., m, n] -> [.., m, n]
Tensor apply_exactly(const SpectralMap& map, const Tensor& x);

}  // namespace schatten
