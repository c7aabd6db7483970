// One matrix, one row of numbers: what a table of spectra shows.
#pragma once
#include <schatten/core/fields.h>
#include <schatten/diagnostics/spectra.h>

#include <limits>
#include <string>
#include <string_view>
#include <vector>

namespace schatten {

struct ColumnsOptions {
  TailStart fit = TailStart::goodness_of_fit;
  int64_t minimum = 50;
  double above = -1;
  int64_t shuffled_seed = -1;
  void fields(auto&& visit) {
    visit("fit", fit, "where the tail of the fit starts");
    visit("minimum", minimum, "fewer eigenvalues give no fit");
    visit("above", above,
          "only eigenvalues above this are fitted (WeightWatcher: 1e-5); -1: those that are not rounding errors");
    visit("shuffled_seed", shuffled_seed, "also fits a copy with its entries shuffled: a second SVD; -1: not");
  }
};

/// Names are WeightWatcher's where the number is, too. lambda = sigma^2, not divided by N.
struct Columns {
  static constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  int64_t N = 0, M = 0, num_evals = 0;
  double Q = kNaN, alpha = kNaN, D = kNaN, sigma = kNaN, xmin = kNaN, alpha_weighted = kNaN, alpha_shuffled = kNaN;
  int64_t num_pl_spikes = 0, matrix_rank = 0, num_spikes = 0;
  double log_alpha_norm = kNaN, log_norm = kNaN, log_spectral_norm = kNaN, lambda_max = kNaN;
  double sigma_max = kNaN, sigma_median = kNaN, sigma_min = kNaN, frobenius_norm = kNaN, rms = kNaN;
  double stable_rank = kNaN, effective_rank = kNaN, participation_ratio = kNaN, entropy = kNaN, slope = kNaN;
  double mp_edge = kNaN, mp_softrank = kNaN;
  void fields(auto&& visit) {
    visit("N", N, "longer side");
    visit("M", M, "shorter side");
    visit("Q", Q, "N / M");
    visit("num_evals", num_evals, "eigenvalues of W^T W: M");
    visit("alpha", alpha, "exponent of the power law that the tail of the eigenvalues follows");
    visit("D", D, "Kolmogorov-Smirnov distance of that fit");
    visit("sigma", sigma, "standard error of alpha: (alpha - 1) / sqrt(num_pl_spikes)");
    visit("xmin", xmin, "eigenvalue that opens the tail");
    visit("num_pl_spikes", num_pl_spikes, "eigenvalues in the tail");
    visit("alpha_weighted", alpha_weighted, "alpha log10 lambda_max");
    visit("alpha_shuffled", alpha_shuffled, "alpha of the same entries in random order");
    visit("log_alpha_norm", log_alpha_norm, "log10 sum lambda^alpha");
    visit("log_norm", log_norm, "log10 sum lambda");
    visit("log_spectral_norm", log_spectral_norm, "log10 lambda_max");
    visit("lambda_max", lambda_max, "largest eigenvalue: sigma_max^2");
    visit("sigma_max", sigma_max, "largest singular value");
    visit("sigma_median", sigma_median, "median singular value");
    visit("sigma_min", sigma_min, "smallest singular value");
    visit("frobenius_norm", frobenius_norm, "root of the sum of squares");
    visit("rms", rms, "root of the mean square of the entries");
    visit("stable_rank", stable_rank, "sum lambda / lambda_max");
    visit("effective_rank", effective_rank, "exp of the entropy of sigma / sum sigma");
    visit("participation_ratio", participation_ratio, "(sum lambda)^2 / sum lambda^2");
    visit("matrix_rank", matrix_rank, "singular values above N eps sigma_max");
    visit("entropy", entropy, "entropy of lambda / sum lambda over log matrix_rank");
    visit("slope", slope, "s of sigma_k ~ k^-s, fitted to the upper half");
    visit("mp_edge", mp_edge, "upper edge of a random matrix with this variance, in units of lambda");
    visit("num_spikes", num_spikes, "eigenvalues beyond mp_edge");
    visit("mp_softrank", mp_softrank, "mp_edge / lambda_max");
  }
};

struct Row {
  Columns columns;
  std::vector<double> singular_values;  // descending; empty where the matrix holds NaN or infinity
};
/// Of one [m, n].
Row row_of(const Tensor& matrix, const ColumnsOptions& options = {});

struct ColumnInfo {
  std::string name, help;
  bool whole = false;  // counts
};
std::vector<ColumnInfo> column_infos();
/// In the order of column_infos.
std::vector<double> numbers_of(const Columns& columns);

}  // namespace schatten
