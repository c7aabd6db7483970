#include <ATen/ATen.h>
#include <schatten/core/rng.h>
#include <schatten/diagnostics/spectra.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

namespace schatten {

namespace {

/// Minus the least-squares slope of ln sigma_k on ln k for k = 1 .. r/2.
double log_log_slope(const std::vector<double>& s) {
  const size_t n = s.size() / 2;
  if (n < 2) return std::numeric_limits<double>::quiet_NaN();
  double sx = 0, sy = 0, sxx = 0, sxy = 0;
  for (size_t k = 1; k <= n; ++k) {
    const double x = std::log(static_cast<double>(k)), y = std::log(std::max(s[k - 1], 1e-300));
    sx += x, sy += y, sxx += x * x, sxy += x * y;
  }
  const auto count = static_cast<double>(n);
  return -(count * sxy - sx * sy) / (count * sxx - sx * sx);
}

double effective_rank(const std::vector<double>& s, double sum) {
  double entropy = 0;
  for (const double v : s)
    if (v > 0) entropy -= v / sum * std::log(v / sum);
  return std::exp(entropy);
}

}  // namespace

SpectralSummary summarize_spectrum(const Tensor& matrix) {
  SpectralSummary out{.rows = matrix.size(0), .cols = matrix.size(1)};
  out.singular_values = singular_values(matrix);
  const auto& s = out.singular_values;
  if (s.empty()) {
    out.frobenius_norm = out.rms = out.sigma_max = out.sigma_median = out.sigma_min = out.stable_rank =
        out.effective_rank = out.participation_ratio = out.slope = std::numeric_limits<double>::quiet_NaN();
    return out;
  }
  double sum = 0, squares = 0, fourth = 0;
  for (const double v : s) sum += v, squares += v * v, fourth += v * v * v * v;
  out.frobenius_norm = std::sqrt(squares);
  out.rms = std::sqrt(squares / static_cast<double>(matrix.numel()));
  out.sigma_max = s.front();
  out.sigma_min = s.back();
  out.sigma_median = (s[(s.size() - 1) / 2] + s[s.size() / 2]) / 2;
  if (sum == 0) return out;
  out.stable_rank = squares / (s.front() * s.front());
  out.effective_rank = effective_rank(s, sum);
  out.participation_ratio = squares * squares / fourth;
  out.slope = log_log_slope(s);
  return out;
}

PowerLawFit fit_power_law_hill(const std::vector<double>& singular_values, int64_t minimum) {
  std::vector<double> lambda;
  for (const double v : singular_values) lambda.push_back(v * v);
  return fit_power_law(std::move(lambda), {.minimum = minimum});
}

Tensor shuffled_entries(const Tensor& matrix, uint64_t seed) {
  const Tensor shuffled = matrix.detach().to(at::kFloat).cpu().contiguous().clone();
  float* entries = shuffled.data_ptr<float>();
  const Rng rng = Rng(seed).of("shuffle");
  for (int64_t i = shuffled.numel() - 1; i > 0; --i)
    std::swap(entries[i], entries[rng.below(i + 1, static_cast<uint64_t>(i))]);
  return shuffled;
}

PowerLawFit fit_power_law_shuffled(const Tensor& matrix, uint64_t seed, int64_t minimum) {
  return fit_power_law_hill(singular_values(shuffled_entries(matrix, seed)), minimum);
}

Value to_value(const SpectralSummary& s, int points) {
  Value out = Value::Table{{"sigma_max", s.sigma_max},
                           {"sigma_median", s.sigma_median},
                           {"sigma_min", s.sigma_min},
                           {"frobenius_norm", s.frobenius_norm},
                           {"rms", s.rms},
                           {"stable_rank", s.stable_rank},
                           {"effective_rank", s.effective_rank},
                           {"participation_ratio", s.participation_ratio},
                           {"slope", s.slope}};
  Value ranks = Value::array(), values = Value::array();
  const auto r = static_cast<double>(s.singular_values.size());
  int64_t last = 0;
  for (int i = 0; i < points && r > 0; ++i) {
    const auto rank = static_cast<int64_t>(std::llround(std::pow(r, static_cast<double>(i) / std::max(points - 1, 1))));
    if (rank == last) continue;
    last = rank;
    ranks.push_back(rank);
    values.push_back(s.singular_values[static_cast<size_t>(rank - 1)]);
  }
  out["ranks"] = std::move(ranks);
  out["singular_values"] = std::move(values);
  return out;
}

Value to_value(const PowerLawFit& f) {
  return Value::Table{{"alpha", f.alpha}, {"distance", f.distance},       {"x_min", f.x_min},
                      {"tail", f.tail},   {"eigenvalues", f.eigenvalues}, {"enough", f.enough}};
}

}  // namespace schatten
