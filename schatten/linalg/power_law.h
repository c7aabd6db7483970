// Power laws in the eigenvalues of W^T W: where the tail starts, its exponent, how well it fits.
#pragma once
#include <schatten/core/fields.h>
#include <schatten/core/tensor.h>

#include <array>
#include <cstdint>
#include <vector>

namespace schatten {

/// Of one [m, n], descending. SVD in float64 for float64, else in float32; empty where x holds NaN or infinity.
std::vector<double> singular_values(const Tensor& matrix);

/// Eigenvalues of W^T W (squared singular values, no 1/N), ascending.
///   [m, n]              min(m, n) of them
///   [out, in, kh, kw]   those of the kh kw slices [out, in], each times sqrt(1/2), pooled
std::vector<double> eigenvalue_spectrum(const Tensor& weight);

/// Which eigenvalue x_min opens the tail.
enum class TailStart {
  median,                   // lambda_(N/2), from 0: the Hill estimate              (TempBalance, AlphaDecay)
  goodness_of_fit,          // the one with the smallest D
  fix_finger,               // the same among those in [0.95, 1.5] times the peak of a 100-bin histogram of log10 lambda
  fix_finger_as_published,  // the same with log10(0.95 peak) as the lower end: a logarithm beside eigenvalues
};
constexpr auto enum_names(TailStart) {
  return std::to_array<std::string_view>({"median", "goodness_of_fit", "fix_finger", "fix_finger_as_published"});
}

struct PowerLawOptions {
  TailStart start = TailStart::median;
  int64_t minimum = 50;
  double above = -1;
  void fields(auto&& visit) {
    visit("start", start, "median, goodness_of_fit, fix_finger; fix_finger_as_published (AlphaDecay's slip)");
    visit("minimum", minimum, "fewer eigenvalues give no fit");
    visit("above", above, "only eigenvalues above this are fitted, unless none is (AlphaDecay: 1e-5); -1: all");
  }
};

/// Density lambda^-alpha from x_min on.
struct PowerLawFit {
  double alpha = 0;     // NaN where there is no fit: too few eigenvalues, x_min = 0, or all of the tail equal
  double distance = 0;  // Kolmogorov-Smirnov distance D of the fit
  double x_min = 0;
  int64_t tail = 0, eigenvalues = 0;  // n and N, the latter before any are left out
  bool enough = false;
};

/// Maximum likelihood on the n eigenvalues from x_min = lambda_i on (ascending, i from 0):
///   alpha = 1 + n / sum_j ln(lambda_j / x_min),   D = max_j |1 - (lambda_j / x_min)^(1 - alpha) - (j - i) / n|
/// Source   Clauset et al. 2009; AlphaDecay, arXiv:2506.14562, hed-ucas/AlphaDecay@23ce27c `net_esd_estimator`.
/// Differs  where no start gives a finite fit, alpha is NaN (upstream: 0 or infinity).
/// Checked  linalg/power_law_test, diagnostics/golden_test, parameters/alpha_decay_test.
PowerLawFit fit_power_law(std::vector<double> eigenvalues, const PowerLawOptions& options = {});

/// What AlphaDecay logs beside alpha.
struct TailSummary {
  double largest = 0, sum = 0;  // there: spectral_norm, fnorm (both of eigenvalues)
  double stable_rank = 0;       // sum / largest
  double entropy = 0;           // -sum p ln p / ln(rank + 6e-5), p = lambda / sum + 6e-5, rank: lambda > N eps largest
};
TailSummary summarize_tail(const std::vector<double>& eigenvalues);

/// softplus(alpha log10 lambda_max): alphahat as AlphaDecay has it.
double alpha_hat(double alpha, double largest);

}  // namespace schatten
