// Singular-value summaries and power-law fits of one matrix.
#pragma once
#include <schatten/core/tensor.h>
#include <schatten/core/value.h>
#include <schatten/linalg/power_law.h>

#include <cstdint>
#include <vector>

namespace schatten {

/// One SVD, all numbers (float64 arithmetic after the SVD). lambda = sigma^2.
struct SpectralSummary {
  int64_t rows = 0, cols = 0;
  double frobenius_norm = 0, rms = 0;
  double sigma_max = 0, sigma_median = 0, sigma_min = 0;
  double stable_rank = 0;     // sum(lambda) / lambda_1
  double effective_rank = 0;  // exp(entropy of sigma / sum(sigma)), Roy and Vetterli
  double participation_ratio = 0;
  double slope = 0;                     // minus the least-squares slope of ln sigma_k on ln k, k <= r/2
  std::vector<double> singular_values;  // descending
};
SpectralSummary summarize_spectrum(const Tensor& matrix);

/// Hill estimate of the power-law exponent of the eigenvalue density, at x_min = lambda_(N/2)
/// (TempBalance / AlphaDecay form): fit_power_law on the squares.
PowerLawFit fit_power_law_hill(const std::vector<double>& singular_values, int64_t minimum = 50);

/// A float32 copy on the CPU with its entries in random order.
Tensor shuffled_entries(const Tensor& matrix, uint64_t seed);

/// The same fit on an entry-shuffled copy (seeded): what a matrix of these entries without structure would give.
PowerLawFit fit_power_law_shuffled(const Tensor& matrix, uint64_t seed, int64_t minimum = 50);

/// One record of spectra.jsonl: names as above, singular values thinned to at most `points` log-spaced ones.
Value to_value(const SpectralSummary& summary, int points = 32);
Value to_value(const PowerLawFit& fit);

}  // namespace schatten
